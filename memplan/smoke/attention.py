"""``scaled_dot_product_attention`` as a GPU dispatches it, for tensors that say they are on a CPU.

The rules are those of ``select_sdp_backend`` in aten/src/ATen/native/transformers/cuda/sdp_utils.cpp,
read off the arguments of each call and not off the workload. cuDNN's kernel is taken to be switched off.
Shapes: query (B, H, S, D), key and value (B, K, S, D).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from memplan.domain.framework import Framework
from memplan.domain.workload import Attention
from memplan.simulator.kernels import Heads
from memplan.smoke.cuda import DTYPES

aten = torch.ops.aten


class Gpu(NamedTuple):
    """What decides besides the arguments: compute capability and libraries."""

    capability: tuple[int, int]
    framework: Framework


def attend(
    kind: Attention,
    gpu: Gpu,
    in_place: Callable[[], AbstractContextManager[None]],
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Call the kernel by its own name; ``kind`` other than ``sdpa`` asks for one.

    The unfused kernel adds its mask in place, unless it meets a dispatch mode: ``in_place`` undoes that.
    """
    # Compilers evaluate the arguments of a call from the last to the first.
    attn_mask, value, key, query = (_cast(x) for x in (attn_mask, value, key, query))
    if kind is Attention.SDPA:
        kind = _choose(gpu, query, key, value, attn_mask, dropout=dropout_p, told=enable_gqa)
    with torch.autocast("cpu", enabled=False):
        mask = _additive(attn_mask, query.dtype)
        if kind is Attention.FLASH_ATTENTION_2:
            return _flash(query, key, value, dropout_p, is_causal, scale)
        if kind is Attention.EFFICIENT:
            # Groups are repeated, as for a mask; one head that stands for all without a word is expanded.
            spread = _repeated if enable_gqa else _expanded
            key, value = (spread(x, query.shape[1]) for x in (key, value))
            bias = None if mask is None else _aligned(mask).expand(*query.shape[:3], key.shape[2])
            return aten._scaled_dot_product_efficient_attention(
                query, key, value, bias, _needs_gradient(query, key, value), dropout_p, is_causal, scale=scale
            )[0]
        with in_place():
            return aten._scaled_dot_product_attention_math(
                query, key, value, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )[0]


def _choose(
    gpu: Gpu, query: Any, key: Any, value: Any, mask: Any, *, dropout: float, told: bool
) -> Attention:
    """The kernel that PyTorch takes for these arguments."""
    heads = Heads(
        width=query.shape[-1],
        value_width=value.shape[-1],
        grouped=query.shape[1] != key.shape[1],
        told=told or key.shape[1] == 1,
        masked=mask is not None,
        dropout=dropout > 0,
        dtype=DTYPES[query.dtype],
    )
    return heads.kernel(gpu.capability, gpu.framework, trains=_needs_gradient(query, key, value))


def _flash(query: Any, key: Any, value: Any, dropout: float, causal: bool, scale: float | None) -> Any:
    """Heads are padded to a multiple of eight (``pad_last_dim`` in transformers/attention.cpp)."""
    width = query.shape[-1]
    short = -width % 8
    if short:
        scale = scale or width**-0.5
        query, key, value = (functional.pad(x, (0, short)) for x in (query, key, value))
    result = aten._scaled_dot_product_flash_attention(query, key, value, dropout, causal, scale=scale)[0]
    return result[..., :width] if short else result


def _repeated(x: Any, heads: int) -> Any:
    """transformers' ``repeat_kv``."""
    batch, groups, length, width = x.shape
    if groups == heads:
        return x
    expanded = x[:, :, None].expand(batch, groups, heads // groups, length, width)
    return expanded.reshape(batch, heads, length, width)


def _expanded(x: Any, heads: int) -> Any:
    return x.expand(-1, heads, -1, -1) if x.shape[1] == 1 else _repeated(x, heads)


def _cast(x: Any) -> Any:
    """What autocast does to an argument before the kernel is chosen."""
    if torch.is_autocast_enabled("cpu") and x is not None and x.is_floating_point():
        return x.to(torch.get_autocast_dtype("cpu"))
    return x


def _additive(mask: Any, dtype: Any) -> Any:
    """``convert_boolean_attn_mask``: 0 and -inf instead of true and false."""
    if mask is None or mask.dtype is not torch.bool:
        return mask
    return torch.where(mask, 0.0, torch.scalar_tensor(float("-inf"), dtype=dtype))


def _aligned(mask: Any) -> Any:
    """``preprocess_mask``: rows of the mask start at a multiple of 16 elements, if need be in a copy."""
    length = mask.shape[-1]
    aligned = all(step % 16 == 0 for step in mask.stride()[:-1]) and mask.stride(-1) == 1
    return mask if aligned else functional.pad(mask, (0, 16 - length % 16))[..., :length]


def _needs_gradient(*tensors: Any) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
