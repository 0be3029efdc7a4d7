"""Sizes of the caching allocator: of blocks, and of what it asks the driver for."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.domain.allocator import MIB

SMALLEST_BLOCK = 512
SMALL_REQUEST = MIB
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB
LARGE_REQUEST = 10 * MIB
SEGMENT_ROUNDING = 2 * MIB


def segment(size: int) -> int:
    """Bytes asked of the driver for a block (``get_allocation_size`` in CUDACachingAllocator.cpp)."""
    if size <= SMALL_REQUEST:
        return SMALL_SEGMENT
    if size < LARGE_REQUEST:
        return LARGE_SEGMENT
    return -(-size // SEGMENT_ROUNDING) * SEGMENT_ROUNDING


def block(size: int, divisions: Sequence[int] = ()) -> int:
    """Bytes of the block for a request (``round_size``): a multiple of 512, or a division of a power of two.

    ``divisions`` gives their number for requests below 2 MiB, below 4 MiB, and so on.
    """
    if size <= SMALLEST_BLOCK:
        return SMALLEST_BLOCK
    if divisions:
        interval = max(size.bit_length() - MIB.bit_length(), 0)
        count = divisions[min(interval, len(divisions) - 1)]
        if count > 1 and size > SMALLEST_BLOCK * count:
            step = (1 << (size.bit_length() - 1)) // count
            return -(-size // step) * step
    return -(-size // SMALLEST_BLOCK) * SMALLEST_BLOCK
