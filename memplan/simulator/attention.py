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

_FLASH_ROWS = 8


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
    output = node.unpack()[0]
    (source,) = node.edges
    assert source is not None
    assert output is not None
    result = output.tape.empty(output.shape, source.dtype, "softmax_backward")
    _ = ops.pair(gradient, output, "mul")
    return (result,)


def softmax_fp32(x: Tensor) -> Tensor:
    """``softmax(x, dim=-1, dtype=torch.float32)``, saving its fp32 result.

    CUDA reads float16 directly (``half_to_float``); bfloat16 is copied to fp32 first.
    """
    return _normalized(x if x.dtype is Dtype.FP16 else ops.to(x, Dtype.FP32), Dtype.FP32)


def softmax(x: Tensor, *, dtype: Dtype | None = None) -> Tensor:
    """``softmax(x, dim=-1, dtype=dtype)``, saving its result.

    Without a dtype it is that of ``x``, but fp32 under autocast, which leaves one that is given alone.
    """
    if dtype is not None:
        return _normalized(ops.to(x, dtype), dtype)
    return _normalized(x, x.dtype) if x.tape.autocast is None else softmax_fp32(x)


def _normalized(x: Tensor, dtype: Dtype) -> Tensor:
    """Before PyTorch 1.11 the input is saved too, for no more than its dtype.

    ``_softmax_backward_data`` then took a tensor (``softmax_backward_data`` in transformers 4.45
    src/transformers/pytorch_utils.py calls either).
    """
    node = begin(_softmax, x)
    result = finish(node, x.tape.empty(x.shape, dtype, "softmax"))
    if node is not None:
        older = x.tape.framework.torch_before(1, 11)
        node.save(x.tape, result.detach(), x if older else None)
    return result


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    softcapped: bool = False,
    dropout: float = 0.0,
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
    if dropout:
        weights = ops.dropout(weights)
    return shapes.contiguous(shapes.transpose(matmul(weights, value), 1, 2)), weights


def spread(x: Tensor, heads: int) -> Tensor:
    """One head for all queries, as ``matmul`` broadcasts it: a view, which the product then copies."""
    return x if x.shape[1] == heads else shapes.expand(x, (x.shape[0], heads, *x.shape[2:]))


def sdpa(
    kind: Attention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    causal: bool = True,
    dropout: float = 0.0,
    broadcast: bool = False,
) -> Tensor:
    """``sdpa_attention_forward`` of transformers with the kernel already chosen. Returns (B, S, H, D).

    The fused kernels drop out within; only the unfused one keeps a mask of
    what it dropped. ``Attention.SDPA`` stands for the kernel PyTorch takes for this very call. With
    ``broadcast`` one key head stands for all without a word: products broadcast it, in the unfused kernel.
    """
    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    if mask is not None and length > 1 and not broadcast:
        # Before autocast casts the arguments; the caller's frame keeps what is repeated.
        key, value, groups = repeat_kv(key, groups), repeat_kv(value, groups), 1
    _repeated = key, value
    value, key, query = cast(value), cast(key), cast(query)
    if kind is Attention.SDPA:
        kind = kernels.of_call(query, key, value, mask)
    if length == 1:
        causal = False
    elif mask is None and causal and key.shape[2] > length:
        # An empty static cache: its places without a token are cut off.
        key, value = shapes.first_keys(key, length), shapes.first_keys(value, length)
    if kind is Attention.MATH:
        if mask is not None and not broadcast:
            key, value = repeat_kv(key, groups), repeat_kv(value, groups)
        result = _without_autocast(
            query, key, value, mask, causal=causal, dropout=dropout, broadcast=broadcast
        )
        del query, key, value
        return shapes.contiguous(shapes.transpose(result, 1, 2))
    if kind is Attention.EFFICIENT and length == 1 and groups > 1:
        return _packed(query, key, value, mask, groups)
    if kind is Attention.EFFICIENT:
        # PyTorch expands one head for all; more than one is counted as repeated.
        repeat = spread if broadcast else repeat_kv
        count = query.shape[1] if broadcast else groups
        key, value = repeat(key, count), repeat(value, count)
        result = fused.efficient(query, key, value, mask)
    else:
        result = _flash(query, key, value, mask)
    # Copies that autocast made are gone once the kernel has run.
    del query, key, value
    return shapes.contiguous(shapes.transpose(result, 1, 2))


def _flash(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """FlashAttention on heads of one width, a multiple of 8; what was padded is cut off the result.

    ``pad_last_dim`` and ``post_process_flash_output`` in aten/src/ATen/native/transformers/attention.cpp.
    A CPU's kernel pads nothing, and takes a mask as numbers (``convert_boolean_attn_mask``, same file).
    """
    if query.tape.capability == kernels.HOST:
        if mask is not None and mask.dtype is Dtype.BOOL:
            mask = masks.additive(mask, query.dtype)
        return fused.flash(query, key, value, mask)
    width, read = value.shape[3], -(-query.shape[3] // _FLASH_ROWS) * _FLASH_ROWS
    result = fused.flash(*(shapes.pad_last(x, read) for x in (query, key, value)))
    return shapes.narrow_last(result, width) if width < read else result


def _packed(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, groups: int) -> Tensor:
    """One query token: heads take the place of a sequence, so that keys need no repeating (``pack_gqa``)."""
    batch, heads, _, width = query.shape
    query = shapes.view(query, (batch, heads // groups, groups, width))
    result = fused.efficient(query, key, value, mask)
    return shapes.contiguous(shapes.transpose(shapes.view(result, (batch, heads, 1, value.shape[3])), 1, 2))


def _without_autocast(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    causal: bool,
    dropout: float,
    broadcast: bool,
) -> Tensor:
    """The unfused kernel; what autocast does to ``scaled_dot_product_attention`` it has done by now."""
    tape = query.tape
    autocast, tape.autocast = tape.autocast, None
    try:
        return _math(query, key, value, mask, causal=causal, dropout=dropout, broadcast=broadcast)
    finally:
        tape.autocast = autocast


def _math(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    causal: bool,
    dropout: float,
    broadcast: bool,
) -> Tensor:
    """The unfused kernel: computes in fp32 outside of autocast, and keeps the scores.

    Source: ``_scaled_dot_product_attention_math`` in aten/src/ATen/native/transformers/attention.cpp, whose
    local variables live until it returns and go in reverse. It returns the probabilities too, in the dtype
    of the query.
    """
    dtype, tape = query.dtype, query.tape
    heads = query.shape[1]
    groups = 1 if broadcast else heads // key.shape[1]
    if mask is not None and mask.dtype is Dtype.BOOL:
        mask = masks.additive(mask, dtype)
    wide_query, wide_key, wide_value = (ops.to(x, Dtype.FP32) for x in (query, key, value))
    scaled = ops.mul_scalar(wide_query)
    if mask is None and causal:
        ones = tape.empty((query.shape[2], key.shape[2]), Dtype.BOOL, "ones")
        lower = ops.like(ones, "tril")
        del ones
        mask = masks.additive(lower, Dtype.FP32)
        del lower
    keys, values = _interleaved(wide_key, groups), _interleaved(wide_value, groups)
    # The mask is added to the scores in place.
    weights = matmul(scaled, spread(ops.mul_scalar(shapes.transpose(keys, 2, 3)), heads))
    weights = _safe_softmax(weights) if mask is not None else _normalized(weights, Dtype.FP32)
    if dropout:
        weights = ops.dropout(weights)
    probabilities = ops.to(weights, dtype)
    result = ops.to(matmul(weights, spread(values, heads)), dtype)
    del weights, values, keys, scaled, mask, wide_value, wide_key, wide_query, probabilities
    return result


def _interleaved(x: Tensor, groups: int) -> Tensor:
    """``repeat_interleave`` over the heads, which copies a single head too."""
    if groups == 1:
        return x
    batch, heads, length, width = x.shape
    expanded = shapes.expand(shapes.unsqueeze(x, 2), (batch, heads, groups, length, width))
    return shapes.view(ops.clone(expanded), (batch, heads * groups, length, width))


def _safe_softmax(x: Tensor) -> Tensor:
    """``_safe_softmax`` of fp32: looks for rows that are masked everywhere, to set them to zero."""
    node = begin(_softmax, x)
    result = finish(node, x.tape.empty(x.shape, Dtype.FP32, "softmax"))
    masked = ops.like(x, "isneginf", Dtype.BOOL)
    rows = x.tape.empty((*x.shape[:-1], 1), Dtype.BOOL, "all")
    del masked, rows
    if node is not None:
        node.save(x.tape, result.detach())
    return result
