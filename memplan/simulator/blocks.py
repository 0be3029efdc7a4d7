"""Modules that models are built from: each holds its parameters and runs its ops under its own name."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import ops, shapes
from memplan.simulator.autograd import Leaf
from memplan.simulator.matmul import linear
from memplan.simulator.tensor import Parameter, Tape, Tensor


class Store:
    """Creates the parameters of one model, in load order; ``leaves`` are those that train."""

    __slots__ = ("dtype", "leaves", "parameters", "tape", "trainable")

    def __init__(self, tape: Tape, dtype: Dtype, *, trainable: bool) -> None:
        self.tape = tape
        self.dtype = dtype
        self.trainable = trainable
        self.leaves: list[Leaf] = []
        self.parameters: list[Parameter] = []

    def parameter(
        self, name: str, shape: tuple[int, ...], component: str = "blocks", *, dtype: Dtype | None = None
    ) -> Parameter:
        """Allocate a parameter in load order."""
        parameter = Parameter(self.tape, shape, dtype or self.dtype, component, name)
        self.parameters.append(parameter)
        if self.trainable:
            leaf = Leaf(parameter, name)
            parameter.node = leaf
            self.leaves.append(leaf)
        return parameter


class Linear:
    """``nn.Linear``: weight (out, in) and an optional bias (out)."""

    __slots__ = ("bias", "name", "weight")

    def __init__(
        self,
        store: Store,
        name: str,
        inputs: int,
        outputs: int,
        *,
        bias: bool = False,
        component: str = "blocks",
    ) -> None:
        self.name = name
        self.weight = store.parameter(f"{name}.weight", (outputs, inputs), component)
        self.bias = store.parameter(f"{name}.bias", (outputs,), component) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        x.tape.scope = self.name
        return linear(x, self.weight, self.bias)


class RMSNorm:
    """``LlamaRMSNorm``: normalises in fp32 and scales in the input's dtype."""

    __slots__ = ("name", "weight")

    def __init__(self, store: Store, name: str, width: int) -> None:
        self.name = name
        self.weight = store.parameter(f"{name}.weight", (width,))

    def __call__(self, x: Tensor) -> Tensor:
        x.tape.scope = self.name
        dtype = x.dtype
        x = ops.to(x, Dtype.FP32)
        variance = ops.mean_last(ops.square(x))
        x = ops.mul(x, ops.rsqrt(ops.add_scalar(variance)))
        return ops.mul(self.weight, ops.to(x, dtype))


class Rotary:
    """``LlamaRotaryEmbedding``: cosine and sine tables (1, S, D) in the hidden dtype, made every forward."""

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
        positions = tape.empty((1, length), Dtype.INT64, "arange")
        frequencies = ops.pair(
            tape.empty((1, length, 1), Dtype.FP32, "float"), self.inverse_frequencies[0], "mul"
        )
        table = tape.empty((1, length, self.width), Dtype.FP32, "cat")
        cosine = ops.like(ops.like(table, "cos"), "mul")
        sine = ops.like(ops.like(table, "sin"), "mul")
        tables = ops.to(cosine, x.dtype), ops.to(sine, x.dtype)
        del positions, frequencies
        return tables


def _rotate_half(x: Tensor) -> Tensor:
    width = x.shape[-1] // 2
    first, second = shapes.narrow_last(x, width), shapes.narrow_last(x, width)
    return shapes.cat_last(ops.neg(second), first)


def rotate(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """``apply_rotary_pos_emb`` on (B, H, S, D) tensors."""
    cosine, sine = shapes.unsqueeze(cosine, 1), shapes.unsqueeze(sine, 1)
    query = ops.add(ops.mul(query, cosine), ops.mul(_rotate_half(query), sine))
    key = ops.add(ops.mul(key, cosine), ops.mul(_rotate_half(key), sine))
    return query, key
