"""A key/value cache in 4 bits with the newest tokens in full, as ``QuantizedCache`` with quanto keeps it.

A layer returns everything in full: what is quantized is dequantized at every step and joined with the newest
tokens, so that what a step needs of one layer is as large as before. Source: ``QuantizedLayer.update`` and
``QuantoQuantizedLayer`` in transformers src/transformers/cache_utils.py (5.23, its defaults);
``MaxOptimizer``, ``quantize_affine``, ``pack_weights``, ``QBitsDequantizer`` and
library/extensions/cuda/unpack.cu in optimum-quanto (0.2.7).
Shapes: keys and values (B, K, S, D), in groups of ``GROUP`` numbers.
"""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.simulator import shapes
from memplan.simulator.layout import Shape
from memplan.simulator.tensor import Tape, Tensor

COMPONENT = "kv_cache"

GROUP = 64
RESIDUAL = 128
"""Numbers that share a scale, and tokens at which the newest are quantized too."""


class Packed:
    """Two numbers a byte, with a scale and a shift for each group."""

    __slots__ = ("data", "dtype", "scale", "shape", "shift")

    def __init__(self, x: Tensor, layer: int) -> None:
        """``_quantize`` of a tensor whose layer is given: temporaries of its size come and go."""
        tape, self.shape, self.dtype = x.tape, x.shape, x.dtype
        numbers = prod(x.shape)
        groups = (numbers // GROUP, 1)
        component, outer = tape.component, tape.trace.layer
        tape.trace.layer = layer
        least = tape.empty(groups, x.dtype, "amin")
        most = tape.empty(groups, x.dtype, "amax")
        spread = tape.empty(groups, x.dtype, "sub")
        tape.component = COMPONENT
        self.scale = tape.empty(groups, x.dtype, "div")
        del spread
        self.shift = tape.empty(groups, x.dtype, "neg")
        tape.component = component
        del least, most
        levels = _levels(tape, (numbers // GROUP, GROUP), x.dtype)
        tape.component = COMPONENT
        self.data = tape.empty((-(-groups[0] // 2), GROUP), Dtype.UINT8, "zeros")
        tape.component = component
        for _ in range(2):
            tape.empty(self.data.shape, Dtype.UINT8, "lshift")
        del levels
        tape.trace.layer = outer

    def full(self) -> Tensor:
        """``dequantize``: a byte for each number, by a kernel of quanto's, then scaled, shifted in place."""
        tape = self.data.tape
        rows = prod(self.shape) // GROUP
        levels = tape.empty((2 * self.data.shape[0], GROUP), Dtype.UINT8, "unpack")
        scaled = tape.empty((rows, GROUP), self.dtype, "mul")
        del levels
        return shapes.view(scaled, self.shape)


class Quantized:
    """``QuantoQuantizedLayer``: the prompt is quantized at once, new tokens when there are 128 of them."""

    __slots__ = ("keys", "layer", "newest", "seen", "values")

    def __init__(self) -> None:
        self.keys: Packed | None = None
        self.values: Packed | None = None
        self.newest: tuple[Tensor, Tensor] | None = None
        self.seen = 0
        self.layer = 0

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The first call returns what it got; later ones everything, in full."""
        self.seen += key.shape[2]
        if self.keys is None or self.values is None:
            self.layer = key.tape.trace.layers[key.storage.block]
            self.keys = Packed(shapes.contiguous(key), self.layer)
            self.values = Packed(shapes.contiguous(value), self.layer)
            return key, value
        old_keys, old_values = self.keys.full(), self.values.full()
        keys, values = self._joined(key, key.dtype), self._joined(value, value.dtype)
        if self._waiting() + key.shape[2] >= RESIDUAL:
            self.keys = Packed(keys, self.layer)
            self.values = Packed(values, self.layer)
            self.newest = None
        else:
            self._wait(key, self._waiting() + key.shape[2])
        del old_keys, old_values
        return keys, values

    def attended(self, queries: int) -> int:
        """Everything so far and the new tokens."""
        return self.seen + queries

    def grow(self, tokens: int) -> None:
        """As many steps: the last time that the newest are quantized, and what waits afterwards."""
        assert self.keys is not None
        assert self.values is not None
        waiting = self._waiting() + tokens
        flushed = self.seen + tokens - waiting % RESIDUAL
        self.seen += tokens
        if waiting >= RESIDUAL:
            self._requantize(flushed)
        if waiting % RESIDUAL:
            self._wait(self.keys.data, waiting % RESIDUAL)

    def _requantize(self, length: int) -> None:
        """All of both in full, and quantized again."""
        assert self.keys is not None
        assert self.values is not None
        tape, dtype = self.keys.data.tape, self.keys.dtype
        old = [self.keys.full(), self.values.full()]
        batch, heads, _, width = self.keys.shape
        whole = [tape.empty((batch, heads, length, width), dtype, "cat") for _ in range(2)]
        self.keys = Packed(whole[0], self.layer)
        self.values = Packed(whole[1], self.layer)
        self.newest = None
        del old, whole

    def _waiting(self) -> int:
        return self.newest[0].shape[2] if self.newest is not None else 0

    def _joined(self, like: Tensor, dtype: Dtype) -> Tensor:
        batch, heads, _, width = like.shape
        return like.tape.empty((batch, heads, self.seen, width), dtype, "cat")

    def _wait(self, like: Tensor, tokens: int) -> None:
        """The newest tokens, in tensors of their own."""
        assert self.keys is not None
        tape, (batch, heads, _, width) = like.tape, self.keys.shape
        component, outer = tape.component, tape.trace.layer
        tape.component, tape.trace.layer = COMPONENT, self.layer
        shape = (batch, heads, tokens, width)
        keys = tape.empty(shape, self.keys.dtype, "cat")
        if self.newest is not None:
            self.newest = (keys, self.newest[1])
        values = tape.empty(shape, self.keys.dtype, "cat")
        self.newest = (keys, values)
        tape.component, tape.trace.layer = component, outer


def _levels(tape: Tape, shape: Shape, dtype: Dtype) -> Tensor:
    """``quantize_affine``: shifted, scaled, rounded, clamped, as bytes."""
    moved = tape.empty(shape, dtype, "add")
    scaled = tape.empty(shape, dtype, "div")
    del moved
    rounded = tape.empty(shape, dtype, "round")
    del scaled
    clamped = tape.empty(shape, dtype, "clamp")
    levels = tape.empty(shape, Dtype.UINT8, "to")
    del clamped, rounded
    return levels
