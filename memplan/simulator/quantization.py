"""Linear layers whose frozen weight bitsandbytes stores in 4 or 8 bits.

Facts from bitsandbytes 0.50: ``quantize_4bit`` in functional.py, ``Linear4bit`` in nn/modules.py,
``MatMul4Bit`` in autograd/_functions.py, and the CUDA kernels' wrappers in backends/cuda/ops.py. Loading
follows transformers 5.x, which quantizes one weight after the other as it is read
(``convert_and_load_state_dict_in_model`` in core_model_loading.py).
"""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Quantization
from memplan.simulator import host_quantization, int8, ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.kernels import HOST
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Parameter, Tape, Tensor

BLOCK = 64
"""Weights that share one scale, in 4-bit formats."""

SCALE_BLOCK = 256
"""Scales that share one scale of their own, with double quantization."""


class Matrix:
    """A weight (out, in) in few bits: ``held`` are the tensors that stay on the GPU.

    ``dtype`` is what it was loaded in, and what dequantizing it gives. A weight that is ``turned`` is copied
    first, since its transpose is what is quantized (``Params4bit._quantize``); to 8 bits it goes by way of
    host memory and fp16, which makes a copy of it anyway.
    """

    __slots__ = ("dtype", "held", "scales", "settings", "shape", "tape")

    def __init__(
        self,
        tape: Tape,
        name: str,
        shape: tuple[int, int],
        dtype: Dtype,
        settings: Quantization,
        *,
        turned: bool = False,
    ) -> None:
        self.tape = tape
        self.shape = shape
        self.dtype = dtype
        self.settings = settings
        self.scales = -(-prod(shape) // BLOCK)
        loaded = self._on_device("loaded", shape, dtype, name, "temporaries")
        copied = turned and (settings.kind != "int8" or (self._on_host and dtype is Dtype.FP16))
        copy = self._on_device("contiguous", shape, dtype, name, "temporaries") if copied else None
        self.held = (self._eight_bits if settings.kind == "int8" else self._four_bits)(name, loaded)
        del loaded, copy

    @property
    def packed_size(self) -> int:
        """Bytes of the weight without its scales."""
        return prod(self.shape) if self.settings.kind == "int8" else -(-prod(self.shape) // 2)

    def _on_device(
        self, op: str, shape: tuple[int, ...], dtype: Dtype, name: str, component: str = "blocks"
    ) -> Tensor:
        tape = self.tape
        component, tape.component = tape.component, component
        scope, tape.scope = tape.scope, name
        made = tape.empty(shape, dtype, op)
        tape.component, tape.scope = component, scope
        return made

    @property
    def _on_host(self) -> bool:
        return self.tape.capability == HOST

    def _kept(self, name: str) -> host_quantization.Make:
        return lambda op, shape, dtype: self._on_device(op, shape, dtype, name)

    def _gone(self, name: str) -> host_quantization.Make:
        return lambda op, shape, dtype: self._on_device(op, shape, dtype, name, "temporaries")

    def _packed(self, name: str, loaded: Tensor) -> tuple[Tensor, Tensor]:
        """The packed weight and its scales."""
        if self._on_host:
            kind, keep, take = self.settings.kind, self._kept(name), self._gone(name)
            return host_quantization.four_bits(loaded, kind, self.scales, keep, take)
        scales = self._on_device("absmax", (self.scales,), Dtype.FP32, name)
        return self._on_device("packed", (self.packed_size, 1), Dtype.UINT8, name), scales

    def _four_bits(self, name: str, loaded: Tensor) -> tuple[Tensor, ...]:
        """Two weights a byte, an fp32 scale per block, and a table of the 16 values.

        With double quantization the scales become bytes with scales of their own, a table of 256 values,
        and their mean.
        """
        packed, scales = self._packed(name, loaded)
        code = self._on_device("code", (16,), Dtype.FP32, name)
        if not self.settings.double:
            return packed, scales, code
        offset = self._on_device("offset", (), Dtype.FP32, name)
        centred = self._on_device("sub", (self.scales,), Dtype.FP32, name, "temporaries")
        second = self._on_device("absmax_scales", (-(-self.scales // SCALE_BLOCK),), Dtype.FP32, name)
        small = self._on_device("absmax_8bit", (self.scales,), Dtype.UINT8, name)
        table = self._on_device("absmax_code", (256,), Dtype.FP32, name)
        del centred
        return packed, small, second, table, offset, code

    def _eight_bits(self, name: str, loaded: Tensor) -> tuple[Tensor, ...]:
        """A byte per weight and an fp32 scale per row.

        The weight goes through host memory and comes back in fp16 (``Bnb8bitQuantize.convert`` in
        transformers src/transformers/integrations/bitsandbytes.py, ``Int8Params._quantize``).
        """
        if self._on_host:
            return host_quantization.eight_bits(loaded, self._kept(name), self._gone(name))
        source = self._on_device("to", self.shape, Dtype.FP16, name, "temporaries")
        scales = self._on_device("row_scales", self.shape[:1], Dtype.FP32, name)
        packed = self._on_device("int8", self.shape, Dtype.UINT8, name)
        del source
        return packed, scales

    def unpack(self, dtype: Dtype) -> tuple[Tensor, ...]:
        """The weight in ``dtype``, as the forward pass makes it, and what is held while it is multiplied.

        A GPU's way is ``_dequant_linear_fallback``: up to some 512 tokens a fused kernel may do without it. A
        CPU's is ``_gemm_4bit_default_impl``, which holds the scales to the end.
        """
        if not self.settings.double:
            return (self.tape.empty(self.shape, dtype, "dequantize_4bit"),)
        scales = self.tape.empty((self.scales,), Dtype.FP32, "absmax")
        shifted = ops.like(scales, "add")
        if self._on_host:
            del scales
            return self.tape.empty(self.shape, dtype, "dequantize_4bit"), shifted
        whole = self.tape.empty(self.shape, dtype, "dequantize_4bit")
        del scales, shifted
        return (whole,)

    def unpack_again(self, dtype: Dtype) -> Tensor:
        """The weight as the backward pass makes it: in the dtype it was loaded in, then cast."""
        scales = self.tape.empty((self.scales,), Dtype.FP32, "absmax") if self.settings.double else None
        whole = self.tape.empty(self.shape, self.dtype, "dequantize_4bit")
        del scales
        return ops.to(whole, dtype)


def linear(x: Tensor, weight: Matrix, bias: Parameter | None) -> Tensor:
    """A quantized linear layer: ``x`` (…, in) and the result in the dtype of ``x``.

    A 4-bit layer casts its input to the compute dtype and its result back (``Linear4bit.forward``).
    """
    if weight.settings.kind == "int8":
        if x.tape.capability == HOST and x.tape.training:
            return host_quantization.multiply(x, weight.shape, biased=bias is not None)
        return int8.multiply(x, weight.shape)
    dtype = x.dtype
    x = ops.to(x, weight.settings.compute)
    return ops.to(_multiply(x, weight, bias), dtype)


def _multiply(x: Tensor, weight: Matrix, bias: Parameter | None) -> Tensor:
    """``MatMul4Bit``: keeps the packed weight alone, and unpacks it once more in backward."""

    def run(_: Node, gradient: Tensor) -> Gradients:
        whole = weight.unpack_again(gradient.dtype)
        gradient.tape.take_workspace()
        shape = (*gradient.shape[:-1], whole.shape[1])
        return (gradient.tape.empty(shape, gradient.dtype, "mm"),)

    node = begin(run, x)
    held = weight.unpack(x.dtype)
    x.tape.take_workspace("cublas" if bias is None else "cublaslt")
    result = x.tape.empty((*x.shape[:-1], weight.shape[0]), x.dtype, "linear")
    del held
    return finish(node, result)
