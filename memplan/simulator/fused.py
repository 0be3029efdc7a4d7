"""The fused attention kernels behind ``scaled_dot_product_attention``: FlashAttention-2 and memory-efficient.

Shapes: query (B, H, S, D), key and value (B, K, S, D); the efficient kernel takes K = H only.
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import masks, shapes
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish, like
from memplan.simulator.tensor import Tensor

_WIDEST_IN_REGISTERS = 128
_ALIGNED = 8
_BIAS_ROWS = 16


def _inputs(saved: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value, *_ = saved
    assert query is not None
    assert key is not None
    assert value is not None
    return query, key, value


def _rows_by_head(x: Tensor, op: str) -> Tensor:
    """A result shaped (B, H, S, D) whose memory is laid out (B, S, H, D), as the efficient kernel does."""
    _, heads, length, width = x.shape
    strides = (length * heads * width, width, heads * width, 1)
    return x.tape.empty(x.shape, x.dtype, op, strides)


def _flash_backward(node: Node, _: Tensor) -> Gradients:
    # mha_bwd in aten/.../transformers/cuda/flash_attn/flash_api.cpp: row sums and an fp32 accumulator
    # for dq, with sequence and head width padded; with grouped heads dk and dv are made expanded first.
    saved = node.unpack()
    query, key, value = _inputs(saved)
    tape = query.tape
    batch, heads, length, width = query.shape
    padded = (batch, heads, -(-length // 128) * 128, -(-width // 32) * 32)
    of_query = like(query, "flash_backward")
    of_key = like(key, "flash_backward")
    of_value = like(value, "flash_backward")
    row_sums = tape.empty(padded[:3], Dtype.FP32, "softmax_d")
    accumulator = tape.empty(padded, Dtype.FP32, "dq_accum")
    if key.shape[1] != heads:
        expanded = (batch, key.shape[2], heads, width)
        dk, dv = tape.empty(expanded, key.dtype, "dk"), tape.empty(expanded, key.dtype, "dv")
        del dk, dv
    del row_sums, accumulator
    return of_query, of_key, of_value


def flash(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """FlashAttention-2: saves q, k, v, the output and the fp32 log-sum-exp (B, H, S), and a CPU's its mask.

    Its results lie in memory as its inputs do (``empty_like`` in ``mha_fwd`` and ``mha_bwd``).
    """
    tape = query.tape
    node = begin(_flash_backward, query, key, value)
    result = finish(node, like(query, "flash_attention"))
    logsumexp = tape.empty(query.shape[:3], Dtype.FP32, "logsumexp")
    if node is not None:
        node.save(tape, query, key, value, result.detach(), logsumexp, mask)
    return result


def _efficient_backward(node: Node, _: Tensor) -> Gradients:
    saved = node.unpack()
    query, key, value = _inputs(saved)
    tape = query.tape
    of_query = _rows_by_head(query, "efficient_backward")
    of_key = _rows_by_head(key, "efficient_backward")
    of_value = _rows_by_head(value, "efficient_backward")
    of_bias: Gradients = ()
    if len(node.edges) > 3:
        bias = saved[5]
        assert bias is not None
        padded = (*bias.shape[:-1], -(-bias.shape[-1] // _BIAS_ROWS) * _BIAS_ROWS)
        made = tape.empty(padded, query.dtype, "efficient_backward")
        of_bias = (made.alias(bias.shape, made.strides),)
        del made
    delta = tape.empty(query.shape[:3], Dtype.FP32, "delta")
    if query.dtype.is_half:
        tape.empty((_accumulated(query, value),), Dtype.FP32, "workspace")
    del delta
    return of_query, of_key, of_value, *of_bias


def _accumulated(query: Tensor, value: Tensor) -> int:
    """fp32 elements that the efficient kernel accumulates half gradients in.

    Those of q always; those of k and v too when a head is wider than the tile's 64 rows (128 rows on
    sm_80 and newer), since they then do not fit in registers (``kOutputInRF``, ``kNeedsAccumGradQ`` and
    ``workspace_size`` in aten/src/ATen/native/transformers/cuda/mem_eff_attention/kernel_backward.h).
    """
    batch, heads, length, width = query.shape
    widest = max(width, value.shape[3])
    rows = 128 if widest > 64 and query.tape.capability >= (8, 0) else 64
    padded = batch * heads * -(-length // rows) * rows
    of_query = padded * -(-width // 64) * 64
    return of_query if widest <= rows else 2 * of_query + padded * -(-value.shape[3] // 64) * 64


def efficient(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Memory-efficient attention: saves q, k, v, output, log-sum-exp (rows padded to 32) and the mask.

    A boolean mask is converted to the query's dtype by every call, and that copy is what is saved; one whose
    rows are no multiple of 8 is copied once more (``preprocess_mask`` in transformers/attention.cpp).
    Half heads wider than 128 are summed up in fp32 outside of registers (``kNeedsOutputAccumulatorBuffer`` in
    aten/.../cuda/mem_eff_attention/kernel_forward.h). The log-sum-exp is made for backward only. A mask that
    learns gets its gradient for every sequence, rows padded to 16 (``_efficient_attention_backward``).
    """
    tape = query.tape
    bias = masks.additive(mask, query.dtype) if mask is not None and mask.dtype is Dtype.BOOL else mask
    if bias is not None and bias.shape[-1] % _ALIGNED:
        bias = shapes.pad_last(bias, -(-bias.shape[-1] // _ALIGNED) * _ALIGNED)
    if bias is not None and bias.node is not None:
        bias = shapes.expand(bias, (*query.shape[:3], bias.shape[-1]))
    learned = () if bias is None or bias.node is None else (bias,)
    node = begin(_efficient_backward, query, key, value, *learned)
    batch, heads, length, width = query.shape
    wide = value.shape[3]
    strides = (length * heads * wide, wide, heads * wide, 1)
    result = tape.empty((batch, heads, length, wide), query.dtype, "efficient_attention", strides)
    finish(node, result)
    logsumexp = None
    if node is not None:
        logsumexp = tape.empty((batch, heads, -(-length // 32) * 32), Dtype.FP32, "logsumexp")
    if max(width, wide) > _WIDEST_IN_REGISTERS and query.dtype.is_half:
        tape.empty((batch, length, heads, wide), Dtype.FP32, "output_accum")
    if node is not None:
        node.save(tape, query, key, value, result.detach(), logsumexp, bias)
    return result
