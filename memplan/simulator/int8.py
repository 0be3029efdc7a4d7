"""LLM.int8 products: both factors in 8 bits, their product in 32.

Source: ``MatMul8bitLt`` in bitsandbytes bitsandbytes/autograd/_functions.py and the wrappers of the
``int8_*`` kernels in backends/cuda/ops.py and backends/default/ops.py (0.50). Columns with outliers, which
are computed in fp16 beside the others, depend on the data and are left out: they are few.
"""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.simulator import ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def multiply(x: Tensor, weight: tuple[int, int]) -> Tensor:
    """``x`` (…, in) times a weight (out, in).

    The graph keeps the input beside its saved tensors, where checkpointing does not see it: each layer's
    input stays on the GPU until the graph goes. Backward unpacks the weight in the input's dtype.
    """
    tape = x.tape
    kept = x.detach()

    def run(_: Node, gradient: Tensor) -> Gradients:
        whole = tape.empty(weight, kept.dtype, "to")
        scales = tape.empty((weight[0], 1), Dtype.FP32, "mul")
        del scales
        gradient = ops.to(gradient, kept.dtype)
        tape.take_workspace()
        product = tape.empty((*gradient.shape[:-1], whole.shape[1]), gradient.dtype, "mm")
        return (product.alias(product.shape, product.strides),)

    node = begin(run, x)
    rows = prod(x.shape[:-1])
    scales, packed = _quantized(x, rows)
    product = tape.empty((rows, weight[0]), Dtype.INT32, "int8_matmul")
    shape = (*x.shape[:-1], weight[0])
    halves = tape.empty(shape, Dtype.FP16, "int8_mm_dequant")
    result = ops.to(halves, x.dtype)
    del product, halves, scales, packed
    return finish(node, result)


def _quantized(x: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Row scales and bytes of an input (``int8_vectorwise_quant``)."""
    tape = x.tape
    source = ops.to(x.detach(), Dtype.FP16)
    scales = tape.empty((rows,), Dtype.FP32, "row_scales")
    packed = tape.empty(x.shape, Dtype.UINT8, "int8")
    sizes = ops.like(source, "abs")
    outliers = ops.like(sizes, "ge", Dtype.BOOL)
    del sizes, outliers, source
    return scales, packed
