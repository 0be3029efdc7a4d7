"""What families with experts share: reading the keys, the router, and a block whose MLP is a mixture."""

from __future__ import annotations

from memplan.domain.architecture import Architecture, Mixture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention
from memplan.families.attention_block import Block
from memplan.families.config import Config
from memplan.simulator import attention, indexing, inplace, ops, shapes, sums
from memplan.simulator.blocks import Store
from memplan.simulator.experts import Experts
from memplan.simulator.matmul import linear
from memplan.simulator.tensor import Tensor


def chosen(read: Config, experts: int, key: str = "num_experts_per_tok") -> int:
    """Experts per token.

    Raises:
        FieldError: there are not so many.
    """
    found = read.size(key)
    if found > experts:
        raise read.wrong(key, f"at most the number of experts ({experts})")
    return found


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
        logits = linear(hidden_states, self.weight)
        probabilities = self._probabilities(logits)
        weights, experts = indexing.topk(probabilities, self.mixture.chosen)
        if self.mixture.normalized:
            weights = inplace.divide(weights, sums.over(weights, 1, keep=True))
        if self.rounded:
            weights = ops.to(weights, logits.dtype)
        return logits, weights, experts

    def _probabilities(self, logits: Tensor) -> Tensor:
        """``softmax(logits, dtype=torch.float)`` where weights are rounded, else ``softmax(logits.float())``."""
        return attention.softmax_fp32(logits if self.rounded else ops.to(logits, Dtype.FP32))


class SparseBlock(Block):
    """A block whose MLP is a router and experts, except at the depths that the mixture calls dense."""

    __slots__ = ("experts", "mixture", "router")

    ROUNDED = False

    def __init__(self, store: Store, shape: Architecture, kind: Attention, index: int) -> None:
        assert shape.mixture is not None
        self.mixture = None if index in shape.mixture.dense else shape.mixture
        super().__init__(store, shape, kind)

    def load_mlp(self, store: Store) -> None:
        """The router and the experts, or an ordinary MLP."""
        if self.mixture is None:
            super().load_mlp(store)
            return
        hidden = self.shape.hidden_size
        self.router = SoftmaxRouter(store, "layers.*.mlp.gate", hidden, self.mixture, rounded=self.ROUNDED)
        self.experts = Experts(store, "layers.*.mlp.experts", hidden, self.mixture, act=self.act)

    def mlp(self, x: Tensor) -> Tensor:
        """``…SparseMoeBlock``, on tokens in one row."""
        if self.mixture is None:
            return super().mlp(x)
        batch, length, hidden = x.shape
        tokens = shapes.view(x, (batch * length, hidden))
        _, weights, experts = self.router(tokens)
        output = self.experts(tokens, experts, weights)
        return shapes.view(output, (batch, length, hidden))
