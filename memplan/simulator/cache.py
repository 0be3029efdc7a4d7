"""Key/value caches of generation, layer by layer, as transformers' ``cache_utils.py`` keeps them (5.23).

A block hands its new keys and values (B, K, S, D) over and attends to what it gets back:
``key, value = cache.update(key, value)``. Layers come in the order of the forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from memplan.domain.dtype import Dtype
from memplan.simulator.ops import promote
from memplan.simulator.quantized_cache import COMPONENT, Quantized
from memplan.simulator.tensor import Tensor


class Layer(Protocol):
    """The cache of one layer; ``seen`` counts the tokens it was given."""

    seen: int

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Take new keys and values; returns those to attend to."""

    def attended(self, queries: int) -> int:
        """How many keys ``update`` will return for as many new tokens (``get_mask_sizes``)."""

    def grow(self, tokens: int) -> None:
        """Do as if ``tokens`` more had been cached one by one; a step of each kind has been made."""


class Cache:
    """The caches of all layers that keep one. ``static`` caches have their full size from the start.

    ``decoding`` says that the prompt has been processed; ``masks`` are those that are kept (``holds``).
    """

    __slots__ = ("cursor", "decoding", "layers", "masks", "static")

    def __init__(self, layers: list[Layer], *, static: bool) -> None:
        self.layers = layers
        self.static = static
        self.masks: object = None
        self.cursor = 0
        self.decoding = False

    @classmethod
    def dynamic(cls, windows: Iterable[int | None]) -> Cache:
        """A ``DynamicCache``: one layer for each window (``None``: attends to everything)."""
        return cls([Growing() if window is None else Sliding(window) for window in windows], static=False)

    def holds(self, masks: object) -> None:
        """Keep the masks that came with a static cache: ``generate`` makes them, and has them to the logits.

        They are among ``model_inputs`` (``prepare_inputs_for_generation`` in transformers
        src/transformers/generation/utils.py); with other caches the model makes its own and drops them.
        """
        if self.static:
            self.masks = masks

    @classmethod
    def preallocated(cls, windows: Iterable[int | None], length: int) -> Cache:
        """A ``StaticCache`` for ``length`` tokens."""
        return cls(
            [
                Preallocated(length) if window is None else PreallocatedWindow(min(window, length))
                for window in windows
            ],
            static=True,
        )

    @classmethod
    def quantized(cls, layers: int) -> Cache:
        """A ``QuantizedCache``, whose layers attend to everything."""
        return cls([Quantized() for _ in range(layers)], static=False)

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """``Cache.update`` for the layer whose turn it is."""
        layer = self.layers[self.cursor]
        self.cursor = (self.cursor + 1) % len(self.layers)
        return layer.update(key, value)

    def grow(self, tokens: int) -> None:
        """Pass over ``tokens`` steps of one token each."""
        for layer in self.layers:
            layer.grow(tokens)

    def layer(self, *, sliding: bool) -> Layer:
        """The layer that masks of a kind are made for: the first one of that kind, else the first."""
        kinds = (Sliding, PreallocatedWindow) if sliding else (Growing, Preallocated)
        return next((layer for layer in self.layers if isinstance(layer, kinds)), self.layers[0])

    def masked(self, queries: int, window: int | None) -> bool:
        """Whether SDPA needs a mask (``_ignore_causal_mask_sdpa``, ``create_causal_mask``: masking_utils.py).

        Decoding with a static cache always takes one: keys that are not there yet must be hidden.
        """
        layer = self.layer(sliding=window is not None)
        keys = layer.attended(queries)
        if window is not None and keys >= window:
            return True
        if queries == 1:
            return self.static
        return keys != queries and layer.seen > 0


def update(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Hand keys and values to the cache in use, if there is one."""
    cache = key.tape.cache
    return (key, value) if cache is None else cache.update(key, value)


def _joined(old: Tensor | None, new: Tensor, length: int | None = None, dtype: Dtype | None = None) -> Tensor:
    """``torch.cat((old, new), dim=-2)``; of an empty cache it is a copy of the new.

    An empty cache has the keys' ``dtype``, also for values: under autocast rotated keys are fp32, and the
    values become so with them (``lazy_initialization``).
    """
    tape = new.tape
    batch, heads, added, width = new.shape
    length = (old.shape[2] if old is not None else 0) + added if length is None else length
    trace = tape.trace
    component, layer = tape.component, trace.layer
    tape.component, trace.layer = COMPONENT, trace.layers[new.storage.block]
    result = tape.empty((batch, heads, length, width), dtype or new.dtype, "cat")
    tape.component, trace.layer = component, layer
    return result


def _last(x: Tensor, tokens: int) -> Tensor:
    """``x[:, :, -tokens:, :]``: a view, which keeps all of ``x``."""
    batch, heads, length, width = x.shape
    return x.alias((batch, heads, min(tokens, length), width), x.strides)


class Growing:
    """``DynamicLayer``: one concatenation per step, the old tensor alive meanwhile."""

    __slots__ = ("keys", "seen", "values")

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.seen = 0

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The first call copies too."""
        self.seen += key.shape[2]
        self.keys = keys = _joined(self.keys, key)
        self.values = values = _joined(self.values, value, dtype=promote(key.dtype, value.dtype))
        return keys, values

    def attended(self, queries: int) -> int:
        """Everything so far and the new tokens."""
        return self.seen + queries

    def grow(self, tokens: int) -> None:
        """The last of the concatenations."""
        assert self.keys is not None
        assert self.values is not None
        self.seen += tokens
        self.keys = _joined(None, self.keys, self.seen)
        self.values = _joined(None, self.values, self.seen)


class Sliding:
    """``DynamicSlidingWindowLayer``: attends to all it has, then keeps a view of ``window - 1`` tokens.

    The view keeps everything alive until the next step: after a long prompt, all of the prompt.
    """

    __slots__ = ("keys", "seen", "values", "window")

    def __init__(self, window: int) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.window = window
        self.seen = 0

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Both are joined before the old ones go."""
        self.seen += key.shape[2]
        keys = _joined(self.keys, key)
        values = _joined(self.values, value, dtype=promote(key.dtype, value.dtype))
        self.keys, self.values = _last(keys, self.window - 1), _last(values, self.window - 1)
        return keys, values

    def attended(self, queries: int) -> int:
        """As many as are kept, and the new ones."""
        return min(self.seen, self.window - 1) + queries

    def grow(self, tokens: int) -> None:
        """Only as far as the window is not full."""
        assert self.keys is not None
        assert self.values is not None
        length = min(self.seen + tokens, self.window)
        if min(self.seen, self.window) < length:
            keys, values = _joined(None, self.keys, length), _joined(None, self.values, length)
            self.keys, self.values = _last(keys, self.window - 1), _last(values, self.window - 1)
        self.seen += tokens


class Preallocated:
    """``StaticLayer``: zeros for ``length`` tokens, filled in place."""

    __slots__ = ("keys", "length", "seen", "values")

    def __init__(self, length: int) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.length = length
        self.seen = 0

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Attends to all places, filled or not."""
        keys, values = self._reserve(key, value)
        self._fill(key)
        return keys, values

    def attended(self, _: int) -> int:
        """All places."""
        return self.length

    def grow(self, tokens: int) -> None:
        """Takes no memory."""
        self.seen += tokens

    def _reserve(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            self.keys = _joined(None, key, self.length)
            self.values = _joined(None, value, self.length)
        return self.keys, self.values

    def _fill(self, key: Tensor) -> None:
        """``index_copy_`` at ``arange(new) + seen``."""
        added = key.shape[2]
        places = (added,)
        arange = key.tape.empty(places, Dtype.INT64, "arange")
        _positions = key.tape.empty(places, Dtype.INT64, "add")
        del arange
        self.seen += added


class PreallocatedWindow(Preallocated):
    """``StaticSlidingWindowLayer``: as many places as the window has."""

    __slots__ = ()

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Once it is full, a step rolls copies of both; a prompt that overflows it is attended to as is."""
        keys, values = self._reserve(key, value)
        added, seen = key.shape[2], self.seen
        if seen + added <= self.length:
            self._fill(key)
            return keys, values
        self.seen += added
        if seen == 0:
            return key, value
        tape = key.tape
        if seen >= self.length and added == 1:
            _rolled = [tape.empty(kept.shape, kept.dtype, "roll") for kept in (keys, values)]
            return keys, values
        kept = min(seen, self.length - 1)
        return _loose(kept, key), _loose(kept, value)

    def attended(self, queries: int) -> int:
        """All places, or more while a prompt overflows them."""
        if self.seen >= self.length:
            return self.length + queries - 1
        return max(self.seen + queries, self.length)


def _loose(kept: int, new: Tensor) -> Tensor:
    """``torch.cat`` of ``kept`` old tokens and the new, which no cache keeps."""
    batch, heads, added, width = new.shape
    return new.tape.empty((batch, heads, kept + added, width), new.dtype, "cat")
