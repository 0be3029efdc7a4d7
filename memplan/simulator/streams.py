"""The caching allocator with several CUDA streams: each has segments of its own, and all share the device.

A block freed on one stream serves allocations of that stream only: ``BlockComparatorSize`` orders blocks by
their stream first, and ``get_free_block`` takes none of another (c10/cuda/CUDACachingAllocator.cpp). When
the driver has no more to give, every stream's cached segments are given back (``release_cached_blocks``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from memplan.domain.allocator import AllocatorOptions
from memplan.simulator.allocator import ADDRESS_BITS, UNLIMITED, Allocator, ExhaustedError
from memplan.simulator.collector import Collector

LOW = (1 << ADDRESS_BITS) - 1
"""Sizes and addresses; their stream is in the bits above."""


def on_streams(sizes: Sequence[int], streams: Mapping[int, int]) -> list[int]:
    """Sizes of blocks with the stream each is allocated on."""
    return [streams.get(block, 0) << ADDRESS_BITS | size for block, size in enumerate(sizes)]


class Streams:
    """One allocator a stream, made when first asked; sizes and addresses say which (``on_streams``)."""

    __slots__ = ("allocated", "budget", "highest", "kind", "limits", "options", "pools", "reserved")

    def __init__(
        self,
        kind: type[Allocator],
        options: AllocatorOptions | None = None,
        budget: int | None = None,
        allowed: int | None = None,
    ) -> None:
        self.kind = kind
        self.options = options
        self.limits = (budget, allowed)
        self.budget = min(UNLIMITED if limit is None else limit for limit in (budget, allowed))
        self.pools: dict[int, Allocator] = {}
        self.allocated = 0
        self.reserved = 0
        self.highest = 0

    @property
    def retries(self) -> int:
        """How often cached memory was given back for an allocation."""
        return sum(pool.retries for pool in self.pools.values())

    @property
    def collector(self) -> Collector | None:
        """One of the streams' collectors of unused segments, if they have any."""
        return next((pool.collector for pool in self.pools.values()), None)

    @property
    def sizes(self) -> dict[int, int]:
        """The size of every block."""
        return {
            stream << ADDRESS_BITS | address: size
            for stream, pool in self.pools.items()
            for address, size in pool.sizes.items()
        }

    @property
    def free(self) -> set[int]:
        """The blocks that are not in use."""
        return {
            stream << ADDRESS_BITS | address for stream, pool in self.pools.items() for address in pool.free
        }

    def allocate(self, size: int) -> int:
        """Take a block on its stream; returns its address.

        Raises:
            ExhaustedError: neither a free block of the stream nor the driver has as much.
        """
        stream, size = size >> ADDRESS_BITS, size & LOW
        pool = self.pools.get(stream)
        if pool is None:
            pool = self.pools[stream] = self.kind(self.options, *self.limits)
        before = pool.allocated
        others = self.reserved - pool.reserved
        pool.budget = self.budget - others
        try:
            address = pool.allocate(size)
        except ExhaustedError:
            for other in self.pools.values():
                other.release_cached()
            others = sum(other.reserved for other in self.pools.values()) - pool.reserved
            pool.budget = self.budget - others
            address = pool.allocate(size)
        self.allocated += pool.allocated - before
        self.reserved = others + pool.reserved
        self.highest = max(self.highest, self.reserved)
        return stream << ADDRESS_BITS | address

    def release(self, address: int) -> None:
        """Return a block to its stream."""
        pool = self.pools[address >> ADDRESS_BITS]
        before = pool.allocated
        pool.release(address & LOW)
        self.allocated += pool.allocated - before
