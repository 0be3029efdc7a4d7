"""Layer norms: the fused one of PyTorch, and T5's, which only scales.

The root-mean-square norm that Llama-like models write out in small ops is in ``blocks``.
"""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.simulator import layout, ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.blocks import RMSNorm, Store
from memplan.simulator.tensor import Tensor

_MANY_ROWS, _COLUMNS, _BLOCKS, _MULTIPROCESSORS = 64 * 1024, 32, 32 * 1024, 108


def _layer_norm(node: Node, _: Tensor) -> Gradients:
    # layer_norm_backward_cuda in aten/src/ATen/native/cuda/layer_norm_kernel.cu: three row-major results.
    x, weight, *_rest = node.unpack()
    assert x is not None
    of_input, *of_rest = node.edges
    tape = x.tape
    results: list[Tensor | None] = [
        tape.empty(x.shape, x.dtype, "layer_norm_backward") if of_input is not None else None
    ]
    for edge in of_rest:
        assert weight is not None
        made = edge is not None
        results.append(tape.empty(weight.shape, weight.dtype, "layer_norm_backward") if made else None)
    _sum_in_parts(results, prod(x.shape[:-1]))
    return tuple(results)


def _sum_in_parts(results: list[Tensor | None], rows: int) -> None:
    """Gradients of narrow weights over many rows: sums of parts first, then the sum of those in new tensors.

    A part is 32 rows or as many more as keep the grid within 32,768 blocks of 32 columns
    (``LaunchGammaBetaBackwardCUDAKernel`` in layer_norm_kernel.cu). Counted for a GPU of 108 multiprocessors,
    an A100; smaller ones do so for narrower weights only.
    """
    _, *places = range(len(results))
    made = [results[place] for place in places]
    width = next((found.shape[0] for found in made if found is not None), 0)
    if rows <= _MANY_ROWS or not 0 < width // _COLUMNS < _MULTIPROCESSORS // 2:
        return
    count = min(_BLOCKS // -(-width // _COLUMNS), -(-rows // _COLUMNS))
    parts = [found and found.tape.empty((count, width), found.dtype, "partial_sums") for found in made]
    for place, found in zip(places, made, strict=True):
        results[place] = found and ops.like(found, "sum")
    del parts


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """``F.layer_norm`` over the last axis: saves its input and the fp32 mean and reciprocal deviation.

    All three come from ``native_layer_norm`` in that order; under autocast it computes in fp32, on a copy
    of a half input. An input that is not row-major is copied for the kernel, not for backward
    (``layer_norm_cuda`` in layer_norm_kernel.cu).
    """
    tape = x.tape
    if tape.autocast is not None:
        x = ops.to(x, Dtype.FP32)
    parameters = [found for found in (weight, bias) if found is not None]
    node = begin(_layer_norm, x, *parameters)
    read = x if layout.is_contiguous(x.shape, x.strides) else tape.empty(x.shape, x.dtype, "contiguous")
    result = ops.finish(node, tape.empty(x.shape, x.dtype, "layer_norm"))
    rows = (*x.shape[:-1], 1)
    mean, deviation = tape.empty(rows, Dtype.FP32, "mean"), tape.empty(rows, Dtype.FP32, "rstd")
    del read
    if node is not None:
        node.save(tape, x, weight, mean, deviation)
    return result


class LayerNorm:
    """``nn.LayerNorm`` over the last axis; without ``affine`` it has no parameters."""

    __slots__ = ("bias", "name", "weight")

    def __init__(
        self, store: Store, name: str, width: int, *, affine: bool = True, component: str = "blocks"
    ) -> None:
        self.name = name
        self.weight = store.parameter(f"{name}.weight", (width,), component) if affine else None
        self.bias = store.parameter(f"{name}.bias", (width,), component) if affine else None

    def __call__(self, x: Tensor) -> Tensor:
        x.tape.scope = self.name
        return layer_norm(x, self.weight, self.bias)


class WideRMSNorm(RMSNorm):
    """``Olmo2RMSNorm`` and its like: scales in fp32, and rounds what comes out."""

    __slots__ = ()

    def __call__(self, x: Tensor) -> Tensor:
        x.tape.scope = self.name
        dtype = x.dtype
        x = ops.to(x, Dtype.FP32)
        variance = ops.mean_last(ops.square(x))
        x = ops.mul(x, ops.rsqrt(ops.add_scalar(variance)))
        return ops.to(ops.mul(self.weight, x), dtype)


class T5LayerNorm(RMSNorm):
    """``T5LayerNorm``: the fp32 copy is made for the variance only, the input itself is scaled.

    A half input times an fp32 factor gives fp32, cast back when the weight is half.
    Source: transformers src/transformers/models/t5/modeling_t5.py.
    """

    __slots__ = ()

    def __call__(self, x: Tensor) -> Tensor:
        x.tape.scope = self.name
        variance = ops.mean_last(ops.square(ops.to(x, Dtype.FP32)))
        x = ops.mul(x, ops.rsqrt(ops.add_scalar(variance)))
        if self.weight.dtype.is_half:
            x = ops.to(x, self.weight.dtype)
        return ops.mul(self.weight, x)
