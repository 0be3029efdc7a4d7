"""Whether a cache of keys and values gives back what it was given, byte for byte."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial

import torch

from memplan.domain.bytes import Bytes
from memplan.domain.errors import RunError
from memplan.mechanisms.context.growing import in_memory, memory
from memplan.mechanisms.context.mapped import MappedCache

AT_ONCE = 1024
"""Tokens that are read back at once."""


class Witness:
    """Keeps a checksum of all rows that go into each layer of a cache, in the order in which they go in."""

    def __init__(self, cache: MappedCache) -> None:
        self.cache = cache
        self.written = [0 for _ in cache.layers]
        for number, layer in enumerate(cache.layers):
            layer.file.write = partial(self._write, number, layer.file.write)  # type: ignore[method-assign]

    def compare(self) -> str:
        """Read everything back; what was found, in words.

        Raises:
            RunError: a layer holds other bytes than it was given.
        """
        size = 0
        for number, layer in enumerate(self.cache.layers):
            checksum = 0
            assert layer.row is not None
            for start in range(0, layer.tokens, AT_ONCE):
                rows = layer.rows(layer.row, start, min(start + AT_ONCE, layer.tokens))
                checksum = zlib.crc32(memory(rows), checksum)
                layer.release()
            if checksum != self.written[number]:
                raise RunError(f"layer {number} of the cache does not hold what was written to it")
            size += layer.tokens * layer.row.bytes
        tokens, layers = self.cache.tokens, len(self.cache.layers)
        what = f"{Bytes(size).rounded()} of keys and values of {tokens:,} tokens in {layers} layers"
        return f"{what} were read back equal{self._place()}"

    def _place(self) -> str:
        """What is to be known of where the files are."""
        files = self.cache.disk and in_memory(self.cache.directory)
        return f"; {self.cache.directory} lies in RAM, so that files there save none" if files else ""

    def _write(
        self, number: int, write: Callable[[torch.Tensor, int], None], data: torch.Tensor, offset: int
    ) -> None:
        self.written[number] = zlib.crc32(memory(data), self.written[number])
        write(data, offset)
