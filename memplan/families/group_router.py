"""DeepSeek-V3's router: sigmoid scores, the best groups of experts, then the best experts in them."""

from __future__ import annotations

from memplan.domain.architecture import Mixture
from memplan.domain.dtype import Dtype
from memplan.simulator import indexing, inplace, ops, shapes, sums
from memplan.simulator.activations import sigmoid
from memplan.simulator.blocks import Store
from memplan.simulator.matmul import linear
from memplan.simulator.tensor import Parameter, Tensor

_BEST_OF_GROUP = 2
"""A group scores as much as its two best experts together."""


class GroupRouter:
    """``DeepseekV3TopkRouter``: computes in fp32, on copies of the hidden states and of its weight (E, h)."""

    __slots__ = ("correction", "mixture", "name", "weight")

    def __init__(self, store: Store, name: str, hidden: int, mixture: Mixture) -> None:
        self.mixture = mixture
        self.name = name
        self.weight = store.parameter(f"{name}.weight", (mixture.experts, hidden))
        bias = f"{name}.e_score_correction_bias"
        self.correction = Parameter(store.tape, (mixture.experts,), Dtype.FP32, "blocks", bias)

    def __call__(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states (B, S, h) → logits (T, E), weights (T, k) and experts (T, k)."""
        hidden_states.tape.scope = self.name
        batch, length, width = hidden_states.shape
        hidden_states = shapes.view(hidden_states, (batch * length, width))
        logits = linear(ops.to(hidden_states, Dtype.FP32), ops.to(self.weight, Dtype.FP32))
        scores = sigmoid(logits)
        choice = ops.add(scores, self.correction)
        group_scores = self._of_groups(choice)
        _group_index = indexing.topk(group_scores, self.mixture.groups_chosen)[1]
        group_mask = group_scores.tape.empty(group_scores.shape, group_scores.dtype, "zeros_like")
        score_mask = self._of_experts(group_mask)
        choice = indexing.masked_fill(choice, indexing.as_bool(indexing.as_bool(score_mask)))
        indices = indexing.topk(choice, self.mixture.chosen)[1]
        weights = indexing.gather_last(scores, indices)
        if self.mixture.normalized:
            denominator = ops.add_scalar(sums.over(weights, 1, keep=True))
            weights = inplace.divide(weights, denominator)
        weights = ops.mul_scalar(weights)
        return logits, weights, indices

    def _of_groups(self, scores: Tensor) -> Tensor:
        """Scores of experts (T, E) → of groups (T, G)."""
        groups = self.mixture.groups
        rows = shapes.view(scores, (scores.shape[0], groups, scores.shape[1] // groups))
        return sums.over(indexing.topk(rows, _BEST_OF_GROUP)[0], 2)

    def _of_experts(self, mask: Tensor) -> Tensor:
        """A mask of groups (T, G), repeated for the experts in them (T, E)."""
        tokens, groups = mask.shape
        experts = self.mixture.experts
        repeated = shapes.expand(shapes.unsqueeze(mask, 2), (tokens, groups, experts // groups))
        return shapes.view(repeated, (tokens, experts))
