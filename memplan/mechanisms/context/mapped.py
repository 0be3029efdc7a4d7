"""Keys and values of a transformer in memory-mapped files: one unnamed file for each layer.

::

    with MappedCache("/scratch", layers=6) as cache:
        keys, values = cache.update(new_keys, new_values, layer=0)

The process holds no cache: what it attends to are views of files, of which only pages that were just read
are resident. ``update`` lets go of those of the layer before, so that at most two layers are at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from types import TracebackType
from typing import Self

import torch

from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError, InputError
from memplan.mechanisms.context.layer import MappedLayer
from memplan.mechanisms.context.quantized import BITS
from memplan.mechanisms.context.rows import Row


class MappedCache:
    """Keys and values of every layer of a transformer, in files of ``directory``.

    Args:
        directory: where the files are made; the system's place for temporary files by default. Files in a
            tmpfs lie in RAM (``memplan.mechanisms.context.growing.in_memory``), which saves nothing.
        layers: how many layers there are.
        bits: 8 or 4 to quantize; 0 keeps numbers as they are, and reading gives equal bytes.
        group: numbers that share a scale where ``bits`` is not 0.

        in_memory: hold the rows in RAM instead, for short contexts and to compare with.

    Raises:
        FieldError: no layers, a group of nothing, or other bits.
        FileAccessError: the directory is missing or cannot be written to.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        layers: int,
        bits: int = 0,
        group: int = 64,
        in_memory: bool = False,
    ) -> None:
        _whole("layers", layers, 1)
        _whole("group", group, 1)
        if bits not in (0, *BITS):
            raise FieldError(f"a number of {bits} bits cannot be cached", expected="8 or 4 bits, or 0")
        self.directory = Path(gettempdir() if directory is None else directory)
        self.bits = bits
        self.group = group
        self.layers: list[MappedLayer] = []
        self._last: MappedLayer | None = None
        with self._closing_on_error():
            for _ in range(layers):
                place = None if in_memory else self.directory
                self.layers.append(MappedLayer(place, bits=bits, group=group))

    @property
    def tokens(self) -> int:
        """Tokens that all layers have: fewer than some while a step is under way."""
        return min(layer.tokens for layer in self.layers)

    @property
    def disk(self) -> Bytes:
        """Bytes of the files; none of rows in memory."""
        return Bytes(sum(layer.file.size for layer in self.layers if layer.file.directory is not None))

    def append(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> None:
        """Add keys and values (batch, heads, tokens, width) to a layer: see ``MappedLayer.append``."""
        self._layer(layer).append(keys, values)

    def read(self, layer: int, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a layer: see ``MappedLayer.read``. The layer read before is let go of."""
        found = self._layer(layer)
        if self._last is not None and self._last is not found:
            self._last.release()
        self._last = found
        return found.read(start, stop)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add new keys and values and return all of them, as a transformer's attention wants it."""
        self.append(keys, values, layer)
        return self.read(layer)

    def reserve(self, tokens: int, row: Row) -> None:
        """Take disk space for ``tokens`` of every layer before a run starts.

        Raises:
            FileAccessError: the disk is full.
        """
        for layer in self.layers:
            layer.reserve(tokens, row)

    def truncate(self, tokens: int) -> None:
        """Forget all but the first ``tokens`` of every layer, such as a step that failed halfway."""
        for layer in self.layers:
            layer.truncate(min(tokens, layer.tokens))

    def release(self) -> None:
        """Let go of all resident pages: the process then holds nothing of the cache."""
        for layer in self.layers:
            layer.release()

    def close(self) -> None:
        """Give all files up. Views that are still around stay valid, and hold their disk space."""
        for layer in self.layers:
            layer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _layer(self, index: int) -> MappedLayer:
        if not 0 <= index < len(self.layers):
            raise InputError(f"there is no layer {index}", expected=f"0 to {len(self.layers) - 1}")
        return self.layers[index]

    @contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise FieldError(f"{name} is {value!r}", expected=f"a whole number of at least {least}")
