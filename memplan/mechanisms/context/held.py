"""Bytes in memory that grow as those of a ``GrowingFile`` do, for caches that are not mapped."""

from __future__ import annotations

import torch

from memplan.domain.errors import InputError
from memplan.mechanisms.context.growing import PAGE


class GrowingMemory:
    """A buffer in RAM; ``directory`` is None, as it is in none.

    When it grows, old and new buffer are there until the bytes are copied: reserve what will be needed.
    """

    def __init__(self) -> None:
        self.directory = None
        self.size = 0
        self._bytes: torch.Tensor | None = torch.empty(0, dtype=torch.uint8)

    def reserve(self, size: int) -> None:
        """Have room for ``size`` bytes in all; what is there stays."""
        old = self.mapped()
        size = -(-size // PAGE) * PAGE
        if size > self.size:
            self._bytes = torch.empty(size, dtype=torch.uint8)
            self._bytes[: self.size] = old
            self.size = size

    def write(self, data: torch.Tensor, offset: int) -> None:
        """Write the bytes of a contiguous tensor at ``offset``, within what was reserved."""
        plain = data.view(torch.uint8).flatten()
        self.mapped()[offset : offset + len(plain)] = plain

    def mapped(self) -> torch.Tensor:
        """All reserved bytes, shape (size,) uint8: the buffer itself."""
        if self._bytes is None:
            raise InputError("the cache is closed", hint="use it within its `with` block")
        return self._bytes

    def release(self) -> None:
        """Memory stays where it is."""

    def close(self) -> None:
        """Give the buffer up; it is free when the last view of it is gone."""
        self._bytes = None
