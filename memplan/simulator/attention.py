"""Attention kernels: eager, and those behind ``scaled_dot_product_attention``.

Shapes: query (B, H, S, D), key and value (B, K, S, D) with K key/value heads; scores (B, H, S, S).
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention
from memplan.simulator import layout, ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.matmul import cast, matmul
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def causal_mask(like: Tensor, length: int) -> Tensor:
    """A boolean mask, as transformers builds it when it cannot rely on ``is_causal``: one (S, S), expanded."""
    shape = (like.shape[0], 1, length, length)
    mask = like.tape.empty((1, 1, length, length), Dtype.BOOL, "causal_mask")
    return mask.alias(shape, layout.expand(mask.shape, mask.strides, shape))


def additive_mask(mask: Tensor, dtype: Dtype) -> Tensor:
    """A boolean mask turned into 0 and -inf of ``dtype``, one per sequence."""
    return mask.tape.empty(mask.shape, dtype, "where")


def repeat_kv(x: Tensor, groups: int) -> Tensor:
    """Each key/value head repeated for its group of query heads: a copy unless there is one head per group."""
    if groups == 1:
        return x
    batch, heads, length, width = x.shape
    expanded = ops.expand(ops.unsqueeze(x, 2), (batch, heads, groups, length, width))
    return ops.view(expanded, (batch, heads * groups, length, width))


def _softmax(node: Node, gradient: Tensor) -> Gradients:
    # A structured op: its result comes first, then softmax_backward_cuda_out multiplies
    # grad and output into a temporary (aten/src/ATen/native/cuda/SoftMax.cu).
    (output,) = node.unpack()
    (source,) = node.edges
    assert output is not None and source is not None
    result = output.tape.empty(output.shape, source.dtype, "softmax_backward")
    _ = ops.pair(gradient, output, "mul")
    return (result,)


def softmax_fp32(x: Tensor) -> Tensor:
    """``softmax(x, dim=-1, dtype=torch.float32)``, saving its fp32 result.

    CUDA reads float16 directly (``half_to_float``); bfloat16 is copied to fp32 first.
    """
    if x.dtype is not Dtype.FP16:
        x = ops.to(x, Dtype.FP32)
    node = begin(_softmax, x)
    result = finish(node, x.tape.empty(x.shape, Dtype.FP32, "softmax"))
    if node is not None:
        node.save(x.tape, result.detach())
    return result


def eager(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """transformers' ``eager_attention_forward``: returns the output (B, S, H, D) and the probabilities.

    The caller holds the probabilities to the end of its block, like the modules of transformers do.
    """
    groups = query.shape[1] // key.shape[1]
    key = repeat_kv(key, groups)
    value = repeat_kv(value, groups)
    weights = ops.mul_scalar(matmul(query, ops.transpose(key, 2, 3)))
    if mask is not None:
        weights = ops.add(weights, mask)
    weights = ops.to(softmax_fp32(weights), query.dtype)
    return ops.contiguous(ops.transpose(matmul(weights, value), 1, 2)), weights


def sdpa(kind: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """``sdpa_attention_forward`` of transformers with the kernel already chosen. Returns (B, S, H, D)."""
    groups = query.shape[1] // key.shape[1]
    query, key, value = cast(query), cast(key), cast(value)
    if kind is Attention.MATH:
        return ops.contiguous(ops.transpose(_math(query, key, value, mask, groups), 1, 2))
    if kind is Attention.EFFICIENT:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
        result = _efficient(query, key, value, mask)
    else:
        result = _flash(query, key, value)
    return ops.contiguous(ops.transpose(result, 1, 2))


def _rows_by_head(x: Tensor, op: str, dtype: Dtype | None = None) -> Tensor:
    """A result shaped (B, H, S, D) whose memory is laid out (B, S, H, D), as the fused kernels do."""
    batch, heads, length, width = x.shape
    strides = (length * heads * width, width, heads * width, 1)
    return x.tape.empty(x.shape, dtype or x.dtype, op, strides)


def _flash_backward(node: Node, gradient: Tensor) -> Gradients:
    # mha_bwd in aten/.../transformers/cuda/flash_attn/flash_api.cpp: row sums and an fp32 accumulator
    # for dq, with sequence and head width padded; with grouped heads dk and dv are made expanded first.
    query, key, value, *_ = node.unpack()
    assert query is not None and key is not None and value is not None
    tape = query.tape
    batch, heads, length, width = query.shape
    rows = -(-length // 128) * 128
    columns = -(-width // 32) * 32
    of_query = _rows_by_head(query, "flash_backward")
    of_key = _rows_by_head(key, "flash_backward")
    of_value = _rows_by_head(value, "flash_backward")
    row_sums = tape.empty((batch, heads, rows), Dtype.FP32, "softmax_d")
    accumulator = tape.empty((batch, heads, rows, columns), Dtype.FP32, "dq_accum")
    if key.shape[1] != heads:
        expanded = (batch, key.shape[2], heads, width)
        _ = tape.empty(expanded, key.dtype, "dk_expanded"), tape.empty(expanded, key.dtype, "dv_expanded")
    del row_sums, accumulator
    return of_query, of_key, of_value


def _flash(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """FlashAttention-2: saves q, k, v, the output and the fp32 log-sum-exp (B, H, S)."""
    tape = query.tape
    node = begin(_flash_backward, query, key, value)
    result = finish(node, _rows_by_head(query, "flash_attention"))
    logsumexp = tape.empty(query.shape[:3], Dtype.FP32, "logsumexp")
    if node is not None:
        node.save(tape, query, key, value, result.detach(), logsumexp)
    return result


def _efficient_backward(node: Node, gradient: Tensor) -> Gradients:
    query, key, value, *_ = node.unpack()
    assert query is not None and key is not None and value is not None
    tape = query.tape
    of_query = _rows_by_head(query, "efficient_backward")
    of_key = _rows_by_head(key, "efficient_backward")
    of_value = _rows_by_head(value, "efficient_backward")
    delta = tape.empty(query.shape[:3], Dtype.FP32, "delta")
    if query.dtype.is_half:
        _ = [tape.empty((count,), Dtype.FP32, "workspace") for count in _accumulators(query)]
    del delta
    return of_query, of_key, of_value


def _accumulators(query: Tensor) -> tuple[int, ...]:
    """fp32 elements that the efficient kernel accumulates half gradients in.

    Those of q always; those of k and v too when a head is wider than the tile's 64 rows (128 rows on
    sm_80 and newer), since they then do not fit in registers (``kOutputInRF``, ``kNeedsAccumGradQ`` and
    ``workspace_size`` in aten/src/ATen/native/transformers/cuda/mem_eff_attention/kernel_backward.h).
    """
    batch, heads, length, width = query.shape
    rows = 128 if width > 64 and query.tape.capability >= (8, 0) else 64
    padded = batch * heads * -(-length // rows) * rows * -(-width // 64) * 64
    return (padded if width <= rows else 3 * padded,)


def _efficient(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Memory-efficient attention: saves q, k, v, output, log-sum-exp padded to 32 rows, and the mask in q's dtype."""
    tape = query.tape
    bias = additive_mask(mask, query.dtype) if mask is not None and mask.dtype is Dtype.BOOL else mask
    node = begin(_efficient_backward, query, key, value)
    result = finish(node, _rows_by_head(query, "efficient_attention"))
    batch, heads, length, _ = query.shape
    logsumexp = tape.empty((batch, heads, -(-length // 32) * 32), Dtype.FP32, "logsumexp")
    if node is not None:
        node.save(tape, query, key, value, result.detach(), logsumexp, bias)
    return result


def _math(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, groups: int) -> Tensor:
    """The unfused kernel: half inputs are computed in fp32, scores are kept (``_scaled_dot_product_attention_math``)."""
    dtype = query.dtype
    tape = query.tape
    if mask is None:
        mask = additive_mask(tape.empty((query.shape[2], key.shape[2]), Dtype.BOOL, "tril"), Dtype.FP32)
    query = ops.mul_scalar(ops.to(query, Dtype.FP32))
    key, value = repeat_kv(ops.to(key, Dtype.FP32), groups), repeat_kv(ops.to(value, Dtype.FP32), groups)
    scores = matmul(query, ops.transpose(ops.mul_scalar(key), 2, 3))
    weights = softmax_fp32(ops.add(scores, mask))
    return ops.to(matmul(weights, value), dtype)
