"""The network of equilibrium propagation without numbers: its sizes, its parameters, and a batch."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.dtype import Dtype
from memplan.simulator import matmul
from memplan.simulator.autograd import Leaf
from memplan.simulator.tensor import Parameter, Tape, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much there is of everything; ``steps`` are those that are simulated."""

    depth: int
    width: int
    batch: int
    momentum: bool
    steps: int

    @property
    def state(self) -> tuple[int, int]:
        """The shape of a state: (B, N)."""
        return (self.batch, self.width)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """Weights (N, N) and biases (N) by layer, samples and targets (B, N)."""

    layers: tuple[tuple[Parameter, Parameter], ...]
    samples: Tensor
    targets: Tensor

    def predict(self, number: int, value: Tensor) -> Tensor:
        """``torch.addmm(bias, value, weight.t())``: (B, N), a new tensor."""
        weight, bias = self.layers[number]
        return matmul.linear(value, weight, bias)

    def train(self) -> list[Leaf]:
        """``requires_grad_`` of every parameter, lowest layer first."""
        leaves = []
        for layer in self.layers:
            for parameter in layer:
                leaf = Leaf(parameter, parameter.name)
                parameter.node = leaf
                leaves.append(leaf)
        return leaves

    def rest(self) -> None:
        """No parameter needs a gradient any more, and those that were there are gone."""
        for layer in self.layers:
            for parameter in layer:
                parameter.node = None


def load(tape: Tape, sizes: Sizes) -> Network:
    """Allocate the parameters and a batch; nothing needs a gradient yet."""
    width = sizes.width
    layers = []
    for _ in range(sizes.depth):
        # Layers share a name, so that they are told of as one.
        weight = Parameter(tape, (width, width), Dtype.FP32, "weights", "layers.*.weight")
        layers.append((weight, Parameter(tape, (width,), Dtype.FP32, "weights", "layers.*.bias")))
    tape.component = "batch"
    samples, targets = (tape.empty(sizes.state, Dtype.FP32, name) for name in ("samples", "targets"))
    tape.grad_enabled = False
    return Network(layers=tuple(layers), samples=samples, targets=targets)
