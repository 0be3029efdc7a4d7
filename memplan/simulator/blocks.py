"""Modules that models are built from: each holds its parameters and runs its ops under its own name."""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Quantization
from memplan.simulator import liger, ops, quantization, shapes
from memplan.simulator.autograd import Leaf
from memplan.simulator.loading import Recorder, readers
from memplan.simulator.matmul import linear
from memplan.simulator.quantization import Matrix
from memplan.simulator.tensor import Parameter, Tape, Tensor

EMBEDDINGS = ("lm_head", "embed_tokens", "wte", "wpe")
"""What TRL takes for embeddings and heads."""


class Store:
    """Creates the parameters of one model, in load order; ``leaves`` are those that train.

    ``quantized`` says how the weights of linear layers are stored, if not as they are.
    """

    __slots__ = ("biases", "dtype", "leaves", "parameters", "quantized", "recorder", "tape", "trainable")

    def __init__(
        self, tape: Tape, dtype: Dtype, *, trainable: bool, quantized: Quantization | None = None
    ) -> None:
        self.tape = tape
        self.dtype = dtype
        self.trainable = trainable
        self.quantized = quantized
        self.recorder = Recorder(tape.trace, tape.framework) if quantized else None
        self.biases: list[Parameter] = []
        self.leaves: list[Leaf] = []
        self.parameters: list[Parameter] = []

    def parameter(
        self, name: str, shape: tuple[int, ...], component: str = "blocks", *, dtype: Dtype | None = None
    ) -> Parameter:
        """Allocate a parameter in load order."""
        start = len(self.tape.trace.events)
        parameter = Parameter(self.tape, shape, dtype or self.dtype, component, name)
        if self.recorder is not None:
            size = prod(shape) * parameter.dtype.itemsize * self.tape.alike(self.tape.trace.layer)
            self.recorder.add(name, component, start, size, size)
        self.parameters.append(parameter)
        if self.trainable:
            leaf = Leaf(parameter, name)
            parameter.node = leaf
            self.leaves.append(leaf)
        return parameter

    def copy(self, parameter: Parameter) -> Parameter:
        """A copy of a parameter of another store, trained with the adapters."""
        name = f"{parameter.name}.modules_to_save"
        return self.parameter(name, parameter.shape, "adapter", dtype=parameter.dtype)

    def matrix(
        self, name: str, shape: tuple[int, int], component: str, *, turned: bool = False
    ) -> Parameter | Matrix:
        """The weight of a linear layer: within blocks it is quantized if anything is.

        ``turned`` says that it is stored the other way.
        """
        if self.quantized is None or component != "blocks":
            return self.parameter(name, shape, component)
        start = len(self.tape.trace.events)
        matrix = Matrix(self.tape, name, shape, self.dtype, self.quantized, turned=turned)
        if self.recorder is not None:
            alike = self.tape.alike(self.tape.trace.layer)
            whole = prod(shape) * self.dtype.itemsize * alike
            self.recorder.add(name, component, start, matrix.packed_size * alike, whole)
        return matrix

    def loaded(self) -> None:
        """All parameters are there: a quantized model is loaded in an order of its own."""
        if self.recorder is not None and self.quantized is not None:
            self.recorder.sort(readers(self.quantized, self.tape.framework))

    def prepare_kbit(self) -> None:
        """``prepare_model_for_kbit_training`` (peft src/peft/utils/other.py): the unquantized becomes fp32.

        The first forward pass turns the biases of 4-bit layers back into the compute dtype
        (``Linear4bit.forward``); here they are turned back at once.
        """
        for parameter in self.parameters:
            if parameter.dtype.is_half:
                parameter.convert(Dtype.FP32)
        for bias in self.biases:
            assert self.quantized is not None
            if self.quantized.kind != "int8":
                bias.convert(self.quantized.compute)

    def halve_embeddings(self) -> None:
        """Embeddings and head become bf16 again, found by name: norms alone stay fp32.

        TRL's ``SFTTrainer`` does this to a 4-bit model that it trains in bf16, once it has its adapters
        (``peft_module_casting_to_bf16`` in trl/trainer/utils.py, 0.13).
        """
        for parameter in self.parameters:
            if any(name in parameter.name for name in EMBEDDINGS):
                parameter.convert(Dtype.BF16)


class Linear:
    """``nn.Linear``: weight (out, in) and an optional bias (out), in a layer of the model."""

    __slots__ = ("bias", "layer", "name", "weight")

    def __init__(
        self,
        store: Store,
        name: str,
        inputs: int,
        outputs: int,
        *,
        bias: bool = False,
        component: str = "blocks",
        turned: bool = False,
    ) -> None:
        self.name = name
        self.layer = store.tape.trace.layer
        self.weight = store.matrix(f"{name}.weight", (outputs, inputs), component, turned=turned)
        self.bias = store.parameter(f"{name}.bias", (outputs,), component) if bias else None
        if self.bias is not None and isinstance(self.weight, Matrix):
            store.biases.append(self.bias)

    @property
    def sides(self) -> tuple[int, int]:
        """Outputs and inputs."""
        outputs, inputs = self.weight.shape
        return outputs, inputs

    def __call__(self, x: Tensor) -> Tensor:
        x.tape.scope = self.name
        if isinstance(self.weight, Matrix):
            return quantization.linear(x, self.weight, self.bias)
        return linear(x, self.weight, self.bias)


class RMSNorm:
    """``LlamaRMSNorm``: normalises in fp32 and scales in the input's dtype."""

    __slots__ = ("name", "weight")

    def __init__(self, store: Store, name: str, width: int) -> None:
        self.name = name
        self.weight = store.parameter(f"{name}.weight", (width,))

    def __call__(self, x: Tensor) -> Tensor:
        x.tape.scope = self.name
        if x.tape.liger.rms_norm:
            return liger.rms_norm(x, self.weight, in_place=x.tape.liger.in_place)
        dtype = x.dtype
        x = ops.to(x, Dtype.FP32)
        variance = ops.mean_last(ops.square(x))
        x = ops.mul(x, ops.rsqrt(ops.add_scalar(variance)))
        return ops.mul(self.weight, ops.to(x, dtype))


class Rotary:
    """``LlamaRotaryEmbedding``: tables (1 or B, S, D) in the hidden dtype, made every forward."""

    __slots__ = ("inverse_frequencies", "width")

    def __init__(self, store: Store, width: int) -> None:
        self.width = width
        halves = (width // 2,)
        buffers = [
            Parameter(store.tape, halves, Dtype.FP32, "blocks", "rotary_emb.inv_freq") for _ in range(2)
        ]
        self.inverse_frequencies = buffers

    def __call__(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        tape = x.tape
        tape.scope = "rotary_emb"
        # ``generate`` passes the positions of every sequence.
        rows = x.shape[0] if tape.cache is not None else 1
        positions = tape.empty((rows, length), Dtype.INT64, "arange") if tape.cache is None else None
        frequencies = ops.pair(
            tape.empty((rows, length, 1), Dtype.FP32, "float"), self.inverse_frequencies[0], "mul"
        )
        if tape.framework.transformers_before(5, 19):
            # Computed as a matrix product then, which takes the thread's workspace early.
            tape.take_workspace()
        table = self.table(frequencies)
        cosine = ops.like(ops.like(table, "cos"), "mul")
        sine = ops.like(ops.like(table, "sin"), "mul")
        tables = self.rounded(cosine, x.dtype), self.rounded(sine, x.dtype)
        del positions, frequencies
        return tables

    def rounded(self, table: Tensor, dtype: Dtype) -> Tensor:
        """A table in the dtype of the hidden states."""
        return ops.to(table, dtype)

    def table(self, frequencies: Tensor) -> Tensor:
        """The frequencies (1 or B, S, D / 2) twice, side by side."""
        return frequencies.tape.empty((*frequencies.shape[:2], self.width), Dtype.FP32, "cat")


def rotate_half(x: Tensor) -> Tensor:
    """``rotate_half``: the halves of the last axis swapped, the second one negated."""
    width = x.shape[-1] // 2
    first, second = shapes.narrow_last(x, width), shapes.narrow_last(x, width)
    return shapes.cat_last(ops.neg(second), first)


def rotate(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """``apply_rotary_pos_emb`` on (B, H, S, D) tensors."""
    if query.tape.liger.rope:
        return liger.rotate(query, key, cosine, sine)
    cosine, sine = shapes.unsqueeze(cosine, 1), shapes.unsqueeze(sine, 1)
    query = ops.add(ops.mul(query, cosine), ops.mul(rotate_half(query), sine))
    key = ops.add(ops.mul(key, cosine), ops.mul(rotate_half(key), sine))
    return query, key
