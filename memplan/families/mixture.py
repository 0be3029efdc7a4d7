"""What families with experts share: reading the keys, the router, and a block whose MLP is a mixture."""

from __future__ import annotations

from memplan.domain.architecture import Architecture, Mixture
from memplan.domain.dtype import Dtype
from memplan.families.config import Config
from memplan.simulator import attention, indexing, inplace, ops, shapes, sums
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Store
from memplan.simulator.experts import Experts
from memplan.simulator.matmul import linear
from memplan.simulator.tensor import Tensor

ROUTER, EXPERTS = "layers.*.mlp.gate", "layers.*.mlp.experts"


def experts(read: Config, *names: str) -> tuple[int, int]:
    """How many experts there are, under the first of ``names`` that is written, and how many a token passes.

    Raises:
        FieldError: there are fewer of them than a token passes.
    """
    count = read.size(next((name for name in names if name in read.values), names[0]))
    chosen = read.size("num_experts_per_tok")
    if chosen > count:
        raise read.wrong("num_experts_per_tok", f"at most the number of experts ({count})")
    return count, chosen


class SoftmaxRouter:
    """A softmax over all experts and the best ``chosen`` of them, normalised if the model asks for it.

    ``rounded`` says that the chosen weights are cast back to the dtype of the logits, as in
    ``Qwen3MoeTopKRouter``; ``MixtralTopKRouter`` leaves them in fp32, and all that they are multiplied with.
    """

    __slots__ = ("mixture", "name", "rounded", "weight")

    def __init__(self, store: Store, name: str, hidden: int, mixture: Mixture, *, rounded: bool) -> None:
        self.mixture = mixture
        self.name = name
        self.rounded = rounded
        self.weight = store.parameter(f"{name}.weight", (mixture.experts, hidden))

    def __call__(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (T, h) → logits (T, E), weights (T, k) and experts (T, k)."""
        hidden_states.tape.scope = self.name
        # Through a view of their own, though they are rows already.
        hidden_states = shapes.view(hidden_states, hidden_states.shape)
        logits = linear(hidden_states, self.weight)
        probabilities = self._probabilities(logits)
        weights, indices = indexing.topk(probabilities, self.mixture.chosen)
        if self.mixture.normalized:
            weights = inplace.divide(weights, sums.over(weights, 1, keep=True))
        if self.rounded:
            weights = ops.to(weights, logits.dtype)
        return logits, weights, indices

    def _probabilities(self, logits: Tensor) -> Tensor:
        """``softmax(logits, dtype=torch.float)`` where weights are rounded, else of a copy in fp32."""
        return attention.softmax_fp32(logits if self.rounded else ops.to(logits, Dtype.FP32))


class SparseMlp:
    """``…SparseMoeBlock``: a router and experts in the place of an MLP."""

    __slots__ = ("experts", "router")

    def __init__(self, store: Store, shape: Architecture, *, rounded: bool = False) -> None:
        hidden, mixture = shape.hidden_size, shape.mixture
        assert mixture is not None
        if not rounded:
            # Mixtral's module makes its router first, Qwen3's its experts.
            self.router = SoftmaxRouter(store, ROUTER, hidden, mixture, rounded=rounded)
        self.experts = Experts(store, EXPERTS, hidden, mixture, act=ACTIVATIONS[shape.hidden_act])
        if rounded:
            self.router = SoftmaxRouter(store, ROUTER, hidden, mixture, rounded=rounded)

    def __call__(self, x: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        tokens = shapes.view(x, (batch * length, hidden))
        _, weights, experts = self.router(tokens)
        output = self.experts(tokens, experts, weights)
        return shapes.view(output, (batch, length, hidden))
