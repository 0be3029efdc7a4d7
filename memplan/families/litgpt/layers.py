"""litgpt's linear layers: plain, quantized by bitsandbytes, and with low-rank adapters.

Source: litgpt/lora.py (``LoRALinear``, ``LoRAQKVLinear``); lightning's ``BitsandbytesPrecision``
(lightning/fabric/plugins/precision/bitsandbytes.py), which replaces every ``torch.nn.Linear``, the head too.

Shapes: hidden states (B, T, in), packed q, k and v (B, T, out).
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Adapter, Quantization
from memplan.families.litgpt.design import Design, Release
from memplan.simulator import ops, shapes
from memplan.simulator.autograd import Gradients, Node, Run
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.matmul import linear, rows
from memplan.simulator.pointwise import cat_channels, columns_into, conv1d
from memplan.simulator.quantization import Matrix
from memplan.simulator.splits import split
from memplan.simulator.tensor import Parameter, Tape, Tensor

TARGETS = {
    "query": ("query", "q_proj"),
    "key": ("key", "k_proj"),
    "value": ("value", "v_proj"),
    "projection": ("projection", "o_proj"),
    "mlp": ("mlp", "gate_proj", "up_proj", "down_proj"),
    "head": ("head", "lm_head"),
}
"""litgpt's ``lora_…`` switches, and the names that turn each on."""


def adapted(adapter: Adapter | None, part: str) -> bool:
    """Whether an adapter is on for a part of the model."""
    return adapter is not None and not set(TARGETS[part]).isdisjoint(adapter.targets)


class HalfMatrix(Matrix):
    """A 4-bit weight that was quantized from fp16, whatever the model computes in."""

    __slots__ = ()

    def unpack(self, dtype: Dtype) -> tuple[Tensor, ...]:
        """The weight in fp16, then in ``dtype`` (``MatMul4Bit`` in bitsandbytes/autograd/_functions.py)."""
        whole, *held = super().unpack(self.dtype)
        return ops.to(whole, dtype), *held


class PlainLinear(Linear):
    """``torch.nn.Linear``, or the 4-bit layer that takes its place."""

    __slots__ = ("keeps",)

    def __init__(
        self, stores: Stores, name: str, sides: tuple[int, int], *, bias: bool, component: str = "blocks"
    ) -> None:
        super().__init__(stores.weights, name, *sides, bias=bias, component=component)
        self.keeps = stores.release.keeps_inputs and isinstance(self.weight, Matrix)

    def __call__(self, x: Tensor) -> Tensor:
        result = super().__call__(x)
        if self.keeps and result.node is not None:
            # An attribute of the op's context (``ctx.tensors``), which goes with the node, not after its run.
            result.node.run = _holding(result.node.run, x)
        return result


def _holding(run: Run, x: Tensor) -> Run:
    """The same op's backward, with its input beside it."""

    def held(node: Node, gradient: Tensor) -> Gradients:
        _ = x
        return run(node, gradient)

    return held


class Weights(Store):
    """The frozen or trained weights of a model; layers hold 4-bit ones if anything is quantized."""

    __slots__ = ("bits",)

    def __init__(self, tape: Tape, dtype: Dtype, *, trainable: bool, bits: Quantization | None) -> None:
        super().__init__(tape, dtype, trainable=trainable)
        self.bits = bits

    def matrix(
        self, name: str, shape: tuple[int, int], component: str, *, turned: bool = False
    ) -> Parameter | Matrix:
        """The weight of a linear layer."""
        if self.bits is None:
            return self.parameter(name, shape, component)
        return HalfMatrix(self.tape, name, shape, Dtype.FP16, self.bits, turned=turned)


class Stores:
    """Where a model's parameters go: its own, and those of its adapters."""

    __slots__ = ("adapter", "adapters", "release", "weights")

    def __init__(self, tape: Tape, weights: Weights, adapter: Adapter | None, release: Release) -> None:
        self.weights = weights
        self.release = release
        self.adapter = adapter
        self.adapters = Store(tape, adapter.dtype if adapter else weights.dtype, trainable=True)


class LoraLinear:
    """``LoRALinear``: a layer, and beside it two thin ones if it is adapted."""

    __slots__ = ("base", "down", "dropout", "up")

    def __init__(
        self, stores: Stores, name: str, sides: tuple[int, int], part: str, *, bias: bool = False
    ) -> None:
        component = "decoder_matrix" if part == "head" else "blocks"
        self.base = PlainLinear(stores, name, sides, bias=bias, component=component)
        self.down: Parameter | None = None
        self.up: Parameter | None = None
        adapter = stores.adapter
        self.dropout = adapter.dropout if adapter else 0.0
        if adapter is not None and adapted(adapter, part):
            inputs, outputs = sides
            self.down = stores.adapters.parameter(f"{name}.lora_A", (adapter.rank, inputs), "adapter")
            self.up = stores.adapters.parameter(f"{name}.lora_B", (outputs, adapter.rank), "adapter")

    def __call__(self, x: Tensor) -> Tensor:
        pretrained = self.base(x)
        if self.down is None or self.up is None:
            return pretrained
        lora = ops.mul_scalar(linear(linear(rows(ops.dropout(x) if self.dropout else x), self.down), self.up))
        return ops.add(pretrained, lora)


class PackedLinear:
    """``LoRAQKVLinear``: q, k and v from one layer, some of them adapted by one grouped convolution."""

    __slots__ = ("base", "down", "dropout", "grouped", "index", "name", "packed", "release", "up", "widths")

    def __init__(self, stores: Stores, name: str, shape: Design) -> None:
        self.name = name
        self.release = stores.release
        self.packed = shape.packed
        self.grouped = shape.heads != shape.groups
        self.base = PlainLinear(stores, name, (shape.width, shape.packed), bias=shape.qkv_bias)
        adapter = stores.adapter
        self.dropout = adapter.dropout if adapter else 0.0
        self.index: Tensor | None = None
        keys = shape.groups * shape.head
        outputs = {"query": shape.heads * shape.head, "key": keys, "value": keys}
        self.widths = [width for part, width in outputs.items() if adapted(adapter, part)]
        if adapter is not None and self.widths:
            sides = (adapter.rank * len(self.widths), shape.width)
            self.down = stores.adapters.parameter(f"{name}.lora_A", sides, "adapter")
            sides = (sum(self.widths), adapter.rank)
            self.up = stores.adapters.parameter(f"{name}.lora_B", sides, "adapter")

    def __call__(self, x: Tensor) -> Tensor:
        pretrained = self.base(x)
        if not self.widths:
            return pretrained
        after_a = linear(ops.dropout(x) if self.dropout else x, self.down)
        after_b = self._convolved(shapes.transpose(after_a, 1, 2), shapes.view(self.up, (*self.up.shape, 1)))
        after_b = shapes.transpose(after_b, 1, 2)
        lora = ops.mul_scalar(self._padded(after_b))
        return ops.add(pretrained, lora)

    def _convolved(self, x: Tensor, weight: Tensor) -> Tensor:
        """``conv1d``: with as many keys as queries all parts are alike, otherwise each is on its own."""
        if not self.grouped:
            return conv1d(x, weight)
        rank = weight.shape[1]
        inputs = split(x, 1, [rank] * len(self.widths))
        weights = split(weight, 0, self.widths)
        return cat_channels([conv1d(part, own) for part, own in zip(inputs, weights, strict=True)])

    def _padded(self, x: Tensor) -> Tensor:
        """``zero_pad``: what is not adapted gets zeros."""
        if len(self.widths) == 3:
            return x
        if not self.release.padding_copies:
            return columns_into(x, self.packed, lambda: self._columns(x.tape), copies=False)
        batch, length, width = x.shape
        x, tape = shapes.transpose(x, 0, 1), x.tape
        # The index is made from a list, by every pass.
        result = columns_into(
            x, self.packed, lambda: tape.empty((width,), Dtype.INT64, "lora_ind"), copies=True
        )
        return shapes.transpose(shapes.view(result, (length, batch, self.packed)), 0, 1)

    def _columns(self, tape: Tape) -> Tensor:
        """Which columns are adapted: made at the first pass, and kept (``lora_ind``)."""
        if self.index is None:
            self.index = Parameter(
                tape, (sum(self.widths),), Dtype.INT64, "adapter", f"{self.name}._lora_ind"
            )
            tape.trace.once.add(self.index.storage.block)
        return ops.like(self.index, "clone") if self.release.clones_index else self.index
