"""Queries in chunks: spans of rows, and how many rows fit into the memory that is free.

The bytes of a chunk follow from the ops of ``similarity`` and ``reading``, in numbers of ``itemsize`` bytes
and indices of 8. M slots are compared, of width K; values are V wide.
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError
from memplan.mechanisms.episodic.settings import MATMUL, Settings

INDEX = 8
"""Bytes of an index."""


def spans(total: int, chunk: int | None) -> Iterator[slice]:
    """Consecutive slices of at most ``chunk`` of ``total`` rows; one slice if ``chunk`` is None."""
    step = chunk or max(total, 1)
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def comparing(settings: Settings, slots: int, itemsize: int) -> tuple[int, int]:
    """Bytes of comparing queries with ``slots`` keys: once, and for every query of a chunk.

    By matmul: the normalised keys once; per query its normalised copy and a row of similarities. Broadcast:
    per query the three tensors of ``cosine_similarity``, the norms of both sides and the result.
    """
    width = settings.key_size
    if settings.similarity == MATMUL:
        return slots * width * itemsize, (width + slots) * itemsize
    return itemsize, 3 * slots * (width + 1) * itemsize


def written(settings: Settings, slots: int, itemsize: int, queries: int) -> tuple[int, int]:
    """Bytes of comparing in a write beside bank and inputs: for all its queries, and for each of a chunk.

    Every query gets its best similarity and the index of that slot.
    """
    once, each = comparing(settings, slots, itemsize)
    return once + queries * (itemsize + INDEX), each


def recalled(settings: Settings, slots: int, itemsize: int, queries: int) -> tuple[int, int]:
    """Bytes of a read beside bank and queries: what it returns for all of them, and for each of a chunk.

    A chunk is at its largest while it is compared, while the k best of its similarities are found, or while
    their values are summed up: weights and quotients, the sum, and the three index vectors that
    ``embedding_bag`` makes.
    """
    once, each = comparing(settings, slots, itemsize)
    best = min(settings.neighbours, slots)
    found = best * (itemsize + INDEX)
    ranking = slots * itemsize + found
    summing = found + best * itemsize + max(best * itemsize, settings.width * itemsize + 3 * INDEX)
    result = settings.width * itemsize + found
    return once + queries * result, max(each, ranking, summing)


def fitting(free: int, fixed: int, each: int, queries: int) -> int:
    """The largest chunk of at most ``queries`` whose bytes fit into ``free``.

    Args:
        free: bytes.
        fixed: bytes taken whatever the chunk.
        each: bytes for every query of a chunk.
        queries: queries there are, at least 1.

    Raises:
        InputError: not even one query fits.
    """
    if fixed + each > free:
        raise InputError(
            f"one query of the memory takes {Bytes(fixed + each)}, and {Bytes(max(free, 0))} are free",
            hint="compare by matmul, lower the capacity, or pass fewer queries at once",
        )
    return min(queries, (free - fixed) // each)
