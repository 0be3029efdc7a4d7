"""Pinned memory: what PyTorch's caching host allocator holds.

Source: ``CachingHostAllocatorImpl::allocate`` in aten/src/ATen/core/CachingHostAllocator.h (2.13):
sizes are rounded up to a power of two unless ``pinned_max_round_threshold_mb`` says otherwise, blocks are
never split, and those that are freed are kept for the next request of their size.
"""

from __future__ import annotations

from collections.abc import Iterable


def block(size: int) -> int:
    """The block a request of ``size`` bytes gets: the next power of two."""
    return 1 << (size - 1).bit_length() if size else 0


def pinned(sizes: Iterable[int]) -> int:
    """Bytes of blocks for requests that are alive at once."""
    return sum(map(block, sizes))
