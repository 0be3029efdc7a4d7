"""Weights in few bits on a CPU, where bitsandbytes quantizes and multiplies by PyTorch's own ops.

Source: the ``default`` kernels of ``quantize_4bit`` and ``int8_vectorwise_quant`` in bitsandbytes
bitsandbytes/backends/default/ops.py, and ``MatMul8bitFp`` in autograd/_functions.py (0.50), which training on
a CPU takes in place of ``MatMul8bitLt``. 4-bit weights are unpacked on a CPU as they are on a GPU.

A CPU casts what an op gets in another dtype than it computes in, and casts its result if that is to go into
a tensor of another one (``TensorIteratorBase::compute_types`` in aten/src/ATen/TensorIterator.cpp).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from memplan.domain.dtype import Dtype
from memplan.simulator import ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.matmul import cast
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor

Make = Callable[[str, tuple[int, ...], Dtype], Tensor]
"""Makes a tensor: what for, of which shape and dtype."""


def four_bits(loaded: Tensor, kind: str, scales: int, keep: Make, take: Make) -> tuple[Tensor, Tensor]:
    """The packed weight and its fp32 scales; ``take`` makes what is gone afterwards.

    Numbers are scaled in fp32 and looked up as int32; fp4's come in another order, as int64.
    """
    numbers = prod(loaded.shape)
    flat = loaded if loaded.dtype is Dtype.FP32 else take("float", (numbers,), Dtype.FP32)
    sizes = take("abs", (numbers,), Dtype.FP32)
    absmax = keep("absmax", (scales,), Dtype.FP32)
    places = take("max", (scales,), Dtype.INT64)
    del sizes, places
    factors = take("reciprocal", (scales,), Dtype.FP32)
    product = take("mul", (numbers,), Dtype.FP32)
    del factors
    scaled = take("clamp", (numbers,), Dtype.FP32)
    del product
    found = take("bucketize", (numbers,), Dtype.INT32)
    if kind == "fp4":
        wide = take("to", (numbers,), Dtype.INT64)
        found, wide = take("index", (numbers,), Dtype.INT64), found
        del wide
    narrow = take("to", (numbers,), Dtype.UINT8)
    high = take("lshift", (-(-numbers // 2),), Dtype.UINT8)
    packed = keep("packed", (-(-numbers // 2), 1), Dtype.UINT8)
    del flat, scaled, found, narrow, high
    return packed, absmax


def eight_bits(loaded: Tensor, keep: Make, take: Make) -> tuple[Tensor, Tensor]:
    """The weight in bytes and its fp32 scales by row: by way of fp16, scaled and rounded in fp32."""
    shape = loaded.shape
    rows = shape[:1]
    source = loaded if loaded.dtype is Dtype.FP16 else take("to", shape, Dtype.FP16)
    sizes = take("abs", shape, Dtype.FP16)
    largest, places = take("max", rows, Dtype.FP16), take("max", rows, Dtype.INT64)
    del sizes, places
    scales = keep("row_scales", rows, Dtype.FP32)
    del largest
    factors = take("mul", rows, Dtype.FP32)
    scaled = take("mul", shape, Dtype.FP32)
    cast_source = take("to", shape, Dtype.FP32)
    del cast_source, factors
    rounded = take("round", shape, Dtype.FP32)
    del scaled
    packed = keep("int8", shape, Dtype.UINT8)
    del rounded, source
    return packed, scales


def multiply(x: Tensor, weight: tuple[int, int], *, biased: bool) -> Tensor:
    """``x`` (…, in) times an int8 weight (out, in), which is made whole in the dtype of ``x`` each time.

    The graph keeps the input beside its saved tensors, as on a GPU.
    """
    tape = x.tape
    kept = x.detach()

    def run(_: Node, gradient: Tensor) -> Gradients:
        whole = _whole(kept, weight)
        gradient = ops.to(gradient, kept.dtype)
        product = tape.empty((*gradient.shape[:-1], whole.shape[1]), gradient.dtype, "mm")
        return (product.alias(product.shape, product.strides),)

    node = begin(run, x)
    enabled, tape.grad_enabled = tape.grad_enabled, False
    whole = cast(_whole(kept, weight))
    source = cast(kept)
    result = tape.empty((*x.shape[:-1], weight[0]), source.dtype, "addmm" if biased else "linear")
    tape.grad_enabled = enabled
    del whole, source
    return finish(node, result)


def _whole(like: Tensor, weight: tuple[int, int]) -> Tensor:
    """The weight times its scales, in place: half numbers go through fp32 and back."""
    tape = like.tape
    whole = tape.empty(weight, like.dtype, "to")
    scales = tape.empty((weight[0], 1), Dtype.FP32, "mul")
    if like.dtype is not Dtype.FP32:
        result = tape.empty(weight, Dtype.FP32, "mul")
        operand = tape.empty(weight, Dtype.FP32, "to")
        del result, operand
    del scales
    return whole
