"""GPT-2's linear layer, whose weight is stored (in, out)."""

from __future__ import annotations

from math import prod

from memplan.simulator import shapes
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.matmul import cast
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Parameter, Tensor


def _addmm(node: Node, gradient: Tensor) -> Gradients:
    # AddmmBackward: the input's gradient first (alphabetical: mat1, mat2, self); the bias' is the
    # incoming one, summed by the engine.
    x, weight = node.unpack()
    tape = gradient.tape
    tape.take_workspace()
    rows, columns = gradient.shape
    of_x = of_weight = None
    if weight is not None:
        of_x = tape.empty((rows, weight.shape[0]), gradient.dtype, "mm")
    if x is not None:
        of_weight = tape.empty((x.shape[1], columns), gradient.dtype, "mm")
    return of_x, of_weight, gradient


def conv1d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``torch.addmm(bias, x as a matrix, weight)`` with ``weight`` (in, out): as a fused linear layer.

    Source: ``Conv1D.forward`` in transformers src/transformers/pytorch_utils.py.
    """
    product = _product(shapes.view(x, (prod(x.shape[:-1]), x.shape[-1])), weight, bias)
    return shapes.view(product, (*x.shape[:-1], weight.shape[1]))


def _product(flat: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    weight, flat, bias = cast(weight), cast(flat), cast(bias)
    node = begin(_addmm, flat, weight, bias)
    if node is not None:
        node.save(flat.tape, flat if node.edges[1] else None, weight if node.edges[0] else None)
    flat.tape.take_workspace("cublaslt")
    return finish(node, flat.tape.empty((flat.shape[0], weight.shape[1]), flat.dtype, "addmm"))


class Conv1D(Linear):
    """``Conv1D`` of transformers: weight (in, out) and bias (out).

    Quantization replaces it by an ordinary linear layer (``replace_with_bnb_linear`` in transformers
    src/transformers/integrations/bitsandbytes.py).
    """

    __slots__ = ()

    def __init__(self, store: Store, name: str, inputs: int, outputs: int) -> None:
        if store.quantized is not None:
            super().__init__(store, name, inputs, outputs, bias=True, turned=True)
            return
        self.name = name
        self.layer = store.tape.trace.layer
        self.weight = store.parameter(f"{name}.weight", (inputs, outputs))
        self.bias = store.parameter(f"{name}.bias", (outputs,))

    @property
    def sides(self) -> tuple[int, int]:
        """Outputs and inputs."""
        first, second = self.weight.shape
        return (second, first) if isinstance(self.weight, Parameter) else (first, second)

    def __call__(self, x: Tensor) -> Tensor:
        if not isinstance(self.weight, Parameter):
            return super().__call__(x)
        x.tape.scope = self.name
        assert self.bias is not None
        return conv1d(x, self.weight, self.bias)
