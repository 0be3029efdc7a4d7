"""Eager attention as older models write it: with dropout, a bias on the scores, or in half throughout."""

from __future__ import annotations

from memplan.domain.workload import Attention
from memplan.simulator import ops, shapes
from memplan.simulator.attention import repeat_kv, sdpa, softmax, softmax_fp32
from memplan.simulator.matmul import matmul
from memplan.simulator.tensor import Tensor


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    upcast: bool = True,
    dropout: float = 0.0,
    contiguous: bool = True,
    recast: bool = False,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """An ``eager_attention_forward`` of transformers: the output (B, S, H, D) and the probabilities.

    ``upcast`` says whether the softmax is asked for in fp32, ``recast`` whether probabilities that autocast
    made fp32 are cast back, ``contiguous`` whether the output is made row-major here or left as a view.
    ``bias`` (1 or B, H, S, S) is added before the mask. The caller holds the probabilities to the end of
    its block.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    weights = ops.mul_scalar(matmul(query, shapes.transpose(key, 2, 3)))
    if bias is not None:
        weights = ops.add(weights, bias)
    if mask is not None:
        weights = ops.add(weights, mask)
    weights = ops.to(softmax_fp32(weights), query.dtype) if upcast else softmax(weights)
    if recast:
        weights = ops.to(weights, value.dtype)
    if dropout:
        weights = ops.dropout(weights)
    output = shapes.transpose(matmul(weights, value), 1, 2)
    return shapes.contiguous(output) if contiguous else output, weights


def kernel(
    kind: Attention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    causal: bool = True,
    upcast: bool = True,
    dropout: float = 0.0,
    contiguous: bool = True,
    recast: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """``ALL_ATTENTION_FUNCTIONS``: eager attention or the kernel chosen; probabilities where they exist."""
    if kind is Attention.EAGER:
        return attend(
            query,
            key,
            value,
            mask,
            upcast=upcast,
            dropout=dropout,
            contiguous=contiguous,
            recast=recast,
        )
    return sdpa(kind, query, key, value, mask, causal=causal, dropout=dropout), None
