"""Attention kernels: eager, and those behind ``scaled_dot_product_attention``.

Shapes: query (B, H, S, D), key and value (B, K, S, D) with K key/value heads; scores (B, H, S, S).
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention
from memplan.simulator import fused, kernels, masks, ops, shapes
from memplan.simulator.activations import tanh
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.matmul import cast, matmul
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def repeat_kv(x: Tensor, groups: int) -> Tensor:
    """Each key/value head repeated for its group of query heads: a copy unless groups are single heads."""
    if groups == 1:
        return x
    batch, heads, length, width = x.shape
    expanded = shapes.expand(shapes.unsqueeze(x, 2), (batch, heads, groups, length, width))
    return shapes.view(expanded, (batch, heads * groups, length, width))


def _softmax(node: Node, gradient: Tensor) -> Gradients:
    # A structured op: its result comes first, then softmax_backward_cuda_out multiplies
    # grad and output into a temporary (aten/src/ATen/native/cuda/SoftMax.cu).
    output = node.saved_tensor()
    (source,) = node.edges
    assert source is not None
    result = output.tape.empty(output.shape, source.dtype, "softmax_backward")
    _ = ops.pair(gradient, output, "mul")
    return (result,)


def softmax_fp32(x: Tensor) -> Tensor:
    """``softmax(x, dim=-1, dtype=torch.float32)``, saving its fp32 result.

    CUDA reads float16 directly (``half_to_float``); bfloat16 is copied to fp32 first.
    """
    return _normalized(x if x.dtype is Dtype.FP16 else ops.to(x, Dtype.FP32), Dtype.FP32)


def softmax(x: Tensor) -> Tensor:
    """``softmax(x, dim=-1)``, saving its result: in the dtype of ``x``, but in fp32 under autocast."""
    return _normalized(x, x.dtype) if x.tape.autocast is None else softmax_fp32(x)


def _normalized(x: Tensor, dtype: Dtype) -> Tensor:
    node = begin(_softmax, x)
    result = finish(node, x.tape.empty(x.shape, dtype, "softmax"))
    if node is not None:
        node.save(x.tape, result.detach())
    return result


def eager(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, softcapped: bool = False
) -> tuple[Tensor, Tensor]:
    """transformers' ``eager_attention_forward``: returns the output (B, S, H, D) and the probabilities.

    The caller holds the probabilities to the end of its block, like the modules of transformers do.
    ``softcapped`` scores go through ``tanh(scores / cap) * cap`` first, as in Gemma 2.
    """
    groups = query.shape[1] // key.shape[1]
    key = repeat_kv(key, groups)
    value = repeat_kv(value, groups)
    weights = ops.mul_scalar(matmul(query, shapes.transpose(key, 2, 3)))
    if softcapped:
        weights = ops.mul_scalar(weights)
        weights = tanh(weights)
        weights = ops.mul_scalar(weights)
    if mask is not None:
        weights = ops.add(weights, mask)
    weights = ops.to(softmax_fp32(weights), query.dtype)
    return shapes.contiguous(shapes.transpose(matmul(weights, value), 1, 2)), weights


def sdpa(
    kind: Attention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    causal: bool = True,
    dropout: float = 0.0,
) -> Tensor:
    """``sdpa_attention_forward`` of transformers with the kernel already chosen. Returns (B, S, H, D).

    The fused kernels drop out within; only the unfused one keeps a mask of what it dropped.
    ``Attention.SDPA`` stands for the kernel PyTorch takes for this very call.
    """
    groups = query.shape[1] // key.shape[1]
    query, key, value = cast(query), cast(key), cast(value)
    if kind is Attention.SDPA:
        kind = kernels.of_call(query, key, mask)
    length = query.shape[2]
    if length == 1:
        causal = False
    elif mask is None and causal and key.shape[2] > length:
        # An empty static cache: its places without a token are cut off.
        key, value = shapes.first_keys(key, length), shapes.first_keys(value, length)
    if kind is Attention.MATH:
        result = _math(query, key, value, mask, groups, causal=causal, dropout=dropout)
        return shapes.contiguous(shapes.transpose(result, 1, 2))
    if kind is Attention.EFFICIENT and length == 1 and groups > 1:
        return _packed(query, key, value, mask, groups)
    if kind is Attention.EFFICIENT:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
        result = fused.efficient(query, key, value, mask)
    else:
        result = fused.flash(query, key, value)
    return shapes.contiguous(shapes.transpose(result, 1, 2))


def _packed(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, groups: int) -> Tensor:
    """One query token: heads take the place of a sequence, so that keys need no repeating (``pack_gqa``)."""
    batch, heads, _, width = query.shape
    query = shapes.view(query, (batch, heads // groups, groups, width))
    result = fused.efficient(query, key, value, mask)
    return shapes.contiguous(shapes.transpose(shapes.view(result, (batch, heads, 1, value.shape[3])), 1, 2))


def _math(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    groups: int,
    *,
    causal: bool = True,
    dropout: float = 0.0,
) -> Tensor:
    """The unfused kernel (``_scaled_dot_product_attention_math``): computes in fp32, keeps the scores."""
    dtype = query.dtype
    tape = query.tape
    if mask is None and causal:
        mask = tape.empty((query.shape[2], key.shape[2]), Dtype.BOOL, "tril")
    if mask is not None and mask.dtype is Dtype.BOOL:
        mask = masks.additive(mask, Dtype.FP32)
    query = ops.mul_scalar(ops.to(query, Dtype.FP32))
    key, value = repeat_kv(ops.to(key, Dtype.FP32), groups), repeat_kv(ops.to(value, Dtype.FP32), groups)
    scores = matmul(query, shapes.transpose(ops.mul_scalar(key), 2, 3))
    weights = softmax_fp32(ops.add(scores, mask) if mask is not None else scores)
    if dropout:
        weights = ops.dropout(weights)
    return ops.to(matmul(weights, value), dtype)
