"""CUDA's autocast lists, for tensors that say they are on a CPU.

The CPU's lists cast the same matrix products down, but leave fewer ops in float32. Within ``cuda_lists``
the ops that only CUDA's lists name are cast too (``AT_FORALL_FP32`` and ``AT_FORALL_FP32_SET_OPT_DTYPE`` in
aten/src/ATen/autocast_mode.h).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch

aten = torch.ops.aten

FP32 = (
    "acos",
    "asin",
    "cosh",
    "erfinv",
    "exp",
    "expm1",
    "log",
    "log10",
    "log2",
    "log1p",
    "reciprocal",
    "rsqrt",
    "sinh",
    "tan",
    "pow.Tensor_Scalar",
    "pow.Tensor_Tensor",
    "pow.Scalar",
    "softplus",
    "layer_norm",
    "native_layer_norm",
    "rms_norm",
    "group_norm",
    "norm.Scalar",
    "norm.ScalarOpt_dim",
    "cosine_similarity",
    "kl_div",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "soft_margin_loss",
    "binary_cross_entropy_with_logits",
    "dist",
    "logsumexp",
    "upsample_nearest2d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
)
"""Ops whose half arguments are copied to float32 first."""

SET_DTYPE = (
    "prod",
    "prod.dim_int",
    "softmax.int",
    "log_softmax.int",
    "cumprod",
    "cumsum",
    "linalg_vector_norm",
    "sum",
    "sum.dim_IntList",
)
"""Ops told to compute in float32 unless the call names a dtype."""

UNTOUCHED = ("cat", "stack", "index_copy")
"""Ops whose arguments only the CPU's lists bring to one dtype first; CUDA's kernels read them as they are."""

_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
_HALF = (torch.float16, torch.bfloat16)


@contextmanager
def cuda_lists() -> Iterator[None]:
    """CUDA's lists are in force until the block ends, wherever autocast is on."""
    library = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for names, kernel in ((FP32, _in_fp32), (SET_DTYPE, _with_dtype), (UNTOUCHED, _as_it_is)):
                for name in names:
                    if (op := _overload(name)) is not None:
                        library.impl(name, kernel(op), "AutocastCPU")
        # Asked of no device in particular, PyTorch answers for GPUs; PEFT asks so.
        with mock.patch.object(torch, "is_autocast_enabled", partial(_enabled, torch.is_autocast_enabled)):
            yield
    finally:
        library._destroy()


def _enabled(plain: Any, device: str = "cpu") -> bool:
    return bool(plain(device))


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    found = getattr(aten, packet, None)
    return getattr(found, overload or "default", None)


def _in_fp32(op: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_CPU):
            return op(*[_to_fp32(arg) for arg in args], **{name: _to_fp32(kwargs[name]) for name in kwargs})

    return run


def _as_it_is(op: Any) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_CPU):
            return op(*args, **kwargs)

    return run


def _with_dtype(op: Any) -> Any:
    half_to_float = _SOFTMAX.get(op)

    def run(x: Any, *args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_CPU):
            if half_to_float is None:
                if kwargs.get("dtype") is None and x.dtype in _HALF:
                    kwargs["dtype"] = torch.float32
                return op(x, *args, **kwargs)
            dim, dtype = args[0], kwargs.get("dtype") or (args[1] if len(args) > 1 else None)
            if dtype is None and x.dtype in _HALF:
                dtype = torch.float32
            if x.dtype is torch.float16 and dtype is torch.float32:
                return half_to_float(x, dim, True)
            return op(x, dim, dtype)

    return run


_SOFTMAX = {aten.softmax.int: aten._softmax, aten.log_softmax.int: aten._log_softmax}
"""The two that read float16 and write float32 on a GPU; their dtype may come by position."""


def _to_fp32(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype in _HALF:
        return value.to(torch.float32)
    return value
