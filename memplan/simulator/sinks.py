"""Attention with sinks, as GPT-OSS has it: one more score per head, which no value belongs to.

Shapes: query (B, H, S, D), key and value (B, K, S, D); scores with their sink (B, H, S, S + 1).
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import ops, shapes
from memplan.simulator.attention import repeat_kv, softmax
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.matmul import matmul
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def eager(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, sinks: Tensor
) -> tuple[Tensor, Tensor]:
    """``eager_attention_forward`` of ``modeling_gpt_oss.py``: output (B, S, H, D) and probabilities.

    Probabilities are a slice that leaves the sink out, so the product with the values copies them.
    """
    batch, heads, length, _ = query.shape
    groups = heads // key.shape[1]
    key = repeat_kv(key, groups)
    value = repeat_kv(value, groups)
    weights = ops.mul_scalar(matmul(query, shapes.transpose(key, 2, 3)))
    if mask is not None:
        weights = ops.add(weights, mask)
    sinks = shapes.expand(shapes.view(sinks, (1, heads, 1, 1)), (batch, heads, length, 1))
    combined = shapes.cat_last(weights, sinks)
    combined = ops.sub(combined, max_last(combined))
    probabilities = softmax(combined, dtype=combined.dtype)
    weights = ops.to(shapes.narrow_last(probabilities, key.shape[2]), value.dtype)
    return shapes.contiguous(shapes.transpose(matmul(weights, value), 1, 2)), weights


def max_last(x: Tensor) -> Tensor:
    """``x.max(dim=-1, keepdim=True).values``: saves the int64 positions; backward scatters into zeros."""
    source = x.shape

    def run(node: Node, gradient: Tensor) -> Gradients:
        _ = node.unpack()
        return (gradient.tape.empty(source, gradient.dtype, "value_selecting_backward"),)

    node = begin(run, x)
    kept = (*source[:-1], 1)
    values = finish(node, x.tape.empty(kept, x.dtype, "max"))
    positions = x.tape.empty(kept, Dtype.INT64, "max_indices")
    if node is not None:
        node.save(x.tape, positions)
    return values
