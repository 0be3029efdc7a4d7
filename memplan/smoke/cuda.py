"""What CUDA's kernels take beside their results: workspaces, and temporaries that no op above them shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from memplan.domain.dtype import Dtype

aten = torch.ops.aten

DTYPES = {
    torch.float32: Dtype.FP32,
    torch.bfloat16: Dtype.BF16,
    torch.float16: Dtype.FP16,
    torch.float64: Dtype.FP64,
    torch.int64: Dtype.INT64,
    torch.int32: Dtype.INT32,
    torch.uint8: Dtype.UINT8,
    torch.bool: Dtype.BOOL,
}
TORCH = {dtype: found for found, dtype in DTYPES.items()}

INTO_ZEROS = frozenset(
    (aten.index_put.default, aten.scatter.src, aten.scatter.value, aten.scatter_add.default)
)
"""Ops by which gradients of lookups are put into zeros: in place, unless they meet a dispatch mode
(``index_backward`` and ``value_selecting_reduction_backward`` in torch/csrc/autograd/FunctionsManual.cpp)."""

WITH_RANDOM_STATE = frozenset(
    (
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
    )
)
"""Ops that return, after the output and the log-sum-exp, the random generator's state: 8 or 16 bytes each,
which are left out, as the simulator leaves them out."""

_SAME_SIZE = {8: Dtype.INT64, 4: Dtype.INT32, 2: Dtype.FP16, 1: Dtype.UINT8}
"""What stands for an element type that memplan has no name for."""

Temporary = tuple[str, tuple[int, ...], Dtype]
Capability = tuple[int, int]
Rule = Callable[[Any, Any, Capability], Iterator[Temporary]]

PRODUCTS = {
    aten.mm.default: "cublas",
    aten.bmm.default: "cublas",
    aten.baddbmm.default: "cublas",
    aten.addmm.default: "cublaslt",
}
"""Matrix products, and the library whose workspace they take (``take_workspace`` of the simulator's tape)."""


def _softmax_backward(args: Any, result: Any, _: Capability) -> Iterator[Temporary]:
    """``grad * output`` (``softmax_backward_cuda_out`` in aten/src/ATen/native/cuda/SoftMax.cu)."""
    wide = args[0].dtype is torch.float32
    yield "mul", tuple(result.shape), Dtype.FP32 if wide else dtype_of(result)


def _safe_softmax(__: Any, result: Any, _: Capability) -> Iterator[Temporary]:
    """The search for rows that are masked everywhere (aten/src/ATen/native/transformers/attention.cpp)."""
    yield "isneginf", tuple(result.shape), Dtype.BOOL
    yield "all", (*result.shape[:-1], 1), Dtype.BOOL


def _flash_backward(args: Any, __: Any, _: Capability) -> Iterator[Temporary]:
    """Row sums, an fp32 accumulator for dq, and dk and dv by query head (``mha_bwd`` in flash_api.cpp)."""
    query, key = args[1], args[2]
    batch, heads, length, width = query.shape
    padded = (batch, heads, -(-length // 128) * 128, -(-width // 32) * 32)
    yield "softmax_d", padded[:3], Dtype.FP32
    yield "dq_accum", padded, Dtype.FP32
    if key.shape[1] != heads:
        expanded = (batch, key.shape[2], heads, width)
        yield "dk", expanded, dtype_of(key)
        yield "dv", expanded, dtype_of(key)


def _efficient_backward(args: Any, _: Any, capability: Capability) -> Iterator[Temporary]:
    """Delta, and an fp32 workspace for half gradients (``workspace_size`` in kernel_backward.h).

    The gradient of q is accumulated there always, those of k and v when a head is wider than a tile.
    """
    query = args[1]
    batch, heads, length, width = query.shape
    yield "delta", (batch, heads, length), Dtype.FP32
    if query.dtype is not torch.float32:
        rows = 128 if width > 64 and capability >= (8, 0) else 64
        padded = batch * heads * -(-length // rows) * rows * -(-width // 64) * 64
        yield "workspace", (padded if width <= rows else 3 * padded,), Dtype.FP32


def _embedding_backward(args: Any, __: Any, _: Capability) -> Iterator[Temporary]:
    """The gradient row-major, and beyond 3,072 tokens sorted ids (``embedding_dense_backward_cuda``).

    Source: aten/src/ATen/native/cuda/Embedding.cu.
    """
    gradient, ids = args[:2]
    if not gradient.is_contiguous():
        yield "contiguous", tuple(gradient.shape), dtype_of(gradient)
    if ids.numel() > 3072:
        yield "sorted_indices", tuple(ids.shape), Dtype.INT64
        yield "orig_indices", tuple(ids.shape), Dtype.INT64


def _index_put(args: Any, _: Any, __: Capability) -> Iterator[Temporary]:
    """Accumulating, it sorts positions by ``cub`` (``index_put_with_sort_kernel`` in cuda/Indexing.cu)."""
    index = next(tensor for tensor in args[1] if tensor is not None)
    if len(args) > 3 and args[3]:
        rows = (index.numel(),)
        for name in ("index_linear", "index_sorted", "index_order", "index_range"):
            yield name, rows, Dtype.INT64
        yield "radix_sort", (2, *rows), Dtype.INT64


_RULES: dict[Any, Rule] = {
    aten._safe_softmax.default: _safe_softmax,
    aten._softmax_backward_data.default: _softmax_backward,
    aten._scaled_dot_product_flash_attention_backward.default: _flash_backward,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_backward,
    aten.embedding_dense_backward.default: _embedding_backward,
    aten.index_put.default: _index_put,
}


def temporaries(func: Any, args: Any, result: Any, capability: Capability) -> tuple[Temporary, ...]:
    """Tensors that live within an op, all at once, made after its results."""
    rule = _RULES.get(func)
    return tuple(rule(args, result, capability)) if rule else ()


def dtype_of(tensor: Any) -> Dtype:
    """A tensor's element type."""
    return DTYPES.get(tensor.dtype) or _SAME_SIZE[tensor.dtype.itemsize]


def in_order_of_allocation(func: Any, result: Any) -> Any:
    """An op's results as its kernel makes them, without the states of random generators."""
    if func in WITH_RANDOM_STATE:
        return result[:2]
    if func is aten.native_dropout.default:
        # ``dropout_cuda`` in aten/src/ATen/native/cuda/Dropout.cu makes the mask first.
        return result[::-1]
    return result if isinstance(result, tuple | list) else (result,)


def grouped_product(func: Any, args: Any, kwargs: Any) -> Any:
    """``grouped_mm`` of any dtype: the kernel takes them all, shape inference for fake tensors bf16 only."""
    dtype = args[0].dtype
    left, right, *rest = args
    return func(left.to(torch.bfloat16), right.to(torch.bfloat16), *rest, **kwargs).to(dtype)
