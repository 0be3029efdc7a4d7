"""The cache of one layer of a transformer: rows of keys and values that grow at their end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from memplan.domain.errors import FieldError, FileAccessError
from memplan.mechanisms.context.growing import GrowingFile
from memplan.mechanisms.context.held import GrowingMemory
from memplan.mechanisms.context.rows import Row

LARGEST_STEP: Final = 2**26
"""Bytes by which a file grows ahead of need at the most."""

ENCODED_AT_ONCE: Final = 2**22
"""Bytes of rows that are made in memory at once, on their way into a file."""


class MappedLayer:
    """The cache of one layer: ``tokens`` rows of keys and values in a file of its own.

    ``row`` is known once something was cached. ``bits`` and ``group`` as in ``Row``. Without a ``directory``
    the rows are held in memory.

    Raises:
        FileAccessError: the directory cannot be written to.
    """

    def __init__(self, directory: Path | None, *, bits: int = 0, group: int = 64) -> None:
        self.tokens = 0
        self.row: Row | None = None
        self.file: GrowingFile | GrowingMemory = _storage(directory)
        self._bits = bits
        self._group = group

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Add keys and values (batch, heads, tokens, width); their bytes are what is read back.

        The file grows to twice its size, by ``LARGEST_STEP`` at most, or only as far as it must where
        the disk has not got that much.

        Raises:
            FieldError: of another shape or element type than those before, or not finite where quantized.
            FileAccessError: the disk is full. What was cached stays, and nothing of this is.
        """
        keys, values = keys.detach(), values.detach()
        row = Row.of(keys, values, bits=self._bits, group=self._group)
        self._refuse_other(row)
        added = keys.shape[2]
        self._room((self.tokens + added) * row.bytes)
        at_once = max(1, ENCODED_AT_ONCE // row.bytes)
        for start in range(0, added, at_once):
            part = slice(start, start + at_once)
            rows = row.encode(keys[:, :, part].cpu(), values[:, :, part].cpu())
            self.file.write(rows, (self.tokens + start) * row.bytes)
            # Or it would be there while the next is made.
            del rows
        # Only now: an error on the way leaves everything as it was.
        self.row = row
        self.tokens += added

    def read(self, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (batch, heads, stop - start, width) of some tokens, of all by default.

        Views of the file where numbers are stored as they are; writing to them writes to the cache.

        Raises:
            FieldError: the tokens are not all there.
        """
        stop = self.tokens if stop is None else stop
        if self.row is None:
            raise FieldError("nothing is cached yet", hint="append keys and values first")
        if not 0 <= start <= stop <= self.tokens:
            raise FieldError(
                f"tokens {start} to {stop} are not cached", expected=f"a range within 0 to {self.tokens}"
            )
        return self.row.decode(self.rows(self.row, start, stop))

    def rows(self, row: Row, start: int, stop: int) -> torch.Tensor:
        """Rows (stop - start, bytes) uint8 of some tokens, as they lie in the file."""
        return self.file.mapped()[start * row.bytes : stop * row.bytes].view(-1, row.bytes)

    def chunks(self, tokens: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of ``tokens`` at a time; pages of one chunk are let go of before the next.

        Raises:
            FieldError: chunks without a token.
        """
        if tokens < 1:
            raise FieldError(f"chunks of {tokens} tokens", expected="1 or more")
        for start in range(0, self.tokens, tokens):
            yield self.read(start, min(start + tokens, self.tokens))
            self.release()

    def reserve(self, tokens: int, row: Row) -> None:
        """Take disk space for ``tokens`` in all.

        Raises:
            FileAccessError: the disk is full.
        """
        self.file.reserve(tokens * row.bytes)

    def truncate(self, tokens: int) -> None:
        """Forget all but the first ``tokens``. Their disk space stays reserved.

        Raises:
            FieldError: there are not so many.
        """
        if not 0 <= tokens <= self.tokens:
            raise FieldError(f"{tokens} tokens cannot be kept", expected=f"0 to {self.tokens}")
        self.tokens = tokens

    def select(self, indices: torch.Tensor) -> None:
        """Have batch entry ``i`` become what ``indices[i]`` was, as beam search asks for.

        Also for more or fewer entries than before. Written to a new file, which replaces the old one.
        """
        if self.row is None:
            return
        indices = indices.cpu()
        other = replace(self.row, batch=len(indices))
        fresh = _storage(self.file.directory)
        try:
            fresh.reserve(self.tokens * other.bytes)
            at_once = max(1, ENCODED_AT_ONCE // self.row.bytes)
            for start in range(0, self.tokens, at_once):
                rows = self.rows(self.row, start, min(start + at_once, self.tokens))
                fresh.write(self.row.select(rows, indices), start * other.bytes)
                self.release()
        except BaseException:
            fresh.close()
            raise
        self.file.close()
        self.file, self.row = fresh, other

    def release(self) -> None:
        """Let go of the resident pages of the file."""
        self.file.release()

    def close(self) -> None:
        """Give the file up; its disk space is free once no view of it is left."""
        self.file.close()

    def _room(self, needed: int) -> None:
        if needed <= self.file.size:
            return
        try:
            self.file.reserve(max(needed, self.file.size + min(self.file.size, LARGEST_STEP)))
        except FileAccessError:
            self.file.reserve(needed)

    def _refuse_other(self, row: Row) -> None:
        if self.row is not None and row != self.row:
            raise FieldError(
                f"keys and values of {_sides(row)} do not go with the cached ones",
                expected=_sides(self.row),
            )


def _storage(directory: Path | None) -> GrowingFile | GrowingMemory:
    return GrowingMemory() if directory is None else GrowingFile(directory)


def _sides(row: Row) -> str:
    dtype = str(row.dtype).removeprefix("torch.")
    return f"{row.batch} x {row.heads} x {row.key_dim} numbers in {dtype}"
