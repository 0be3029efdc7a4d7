"""PyTorch's CUDA caching allocator: which memory it reserves for a sequence of allocations and frees.

Rules of c10/cuda/CUDACachingAllocator.cpp for one stream: sizes round up to 512 B; requests up to 1 MiB
come from 2 MiB segments, below 10 MiB from 20 MiB segments, larger ones get segments of their own
rounded to 2 MiB; the best fitting free block is taken and split when what remains is worth keeping; freed
neighbours merge. When the driver has no more to give, segments without a block in use are given back.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from memplan.domain.allocator import MIB, AllocatorOptions
from memplan.simulator import rounding
from memplan.simulator.collector import Collector
from memplan.simulator.rounding import LARGE_SEGMENT, SMALL_REQUEST, SMALLEST_BLOCK

ADDRESS_BITS = 56
ADDRESS = (1 << ADDRESS_BITS) - 1

UNLIMITED = 1 << 512

_ROUNDING = SMALLEST_BLOCK - 1


class ExhaustedError(Exception):
    """The driver has too little left for a segment of ``asked`` bytes."""

    def __init__(self, asked: int) -> None:
        super().__init__(asked)
        self.asked = asked


class Allocator:
    """Device memory as the caching allocator sees it.

    A block is known by its address. ``sizes`` holds every block, ``free`` those not in use; ``before`` and
    ``after`` link neighbours within a segment. Each pool is a sorted list of ``size << 56 | address``, so
    that the best fit is one bisection.

    Segments are placed downwards, as the driver does. Among equal blocks the lowest address wins, so this
    decides which of them is taken, and with it how large blocks get cut up: with ascending addresses
    runs with eager attention come out several percent too low, with descending ones they are exact.

    Blocks from ``unsplit`` on are kept for large requests, requests from ``indivisible`` on get whole blocks.
    ``budget`` is what the driver can give, ``allowed`` the process's share if it was given one
    (``set_per_process_memory_fraction``). ``retries`` counts how often all cached memory was given back for
    an allocation (``num_alloc_retries``), ``highest`` is the most that was reserved.
    """

    __slots__ = (
        "after",
        "allocated",
        "before",
        "budget",
        "collector",
        "divisions",
        "free",
        "frontier",
        "highest",
        "indivisible",
        "pools",
        "reserved",
        "retries",
        "rounded",
        "sizes",
        "small",
        "spare",
        "unsplit",
    )

    def __init__(
        self, options: AllocatorOptions | None = None, budget: int | None = None, allowed: int | None = None
    ) -> None:
        self.sizes: dict[int, int] = {}
        self.before: dict[int, int] = {}
        self.after: dict[int, int] = {}
        self.free: set[int] = set()
        self.small: set[int] = set()
        self.pools: tuple[list[int], list[int]] = ([], [])
        self.frontier = 1 << (ADDRESS_BITS - 1)
        self.allocated = 0
        self.reserved = 0
        self.highest = 0
        self.retries = 0
        self.budget = min(UNLIMITED if limit is None else limit for limit in (budget, allowed))
        options = options or AllocatorOptions()
        limit = options.max_split_size_mb
        self.unsplit = self.indivisible = UNLIMITED if limit is None else limit * MIB
        self.spare = SMALL_REQUEST
        self.divisions = options.roundup_power2_divisions
        self.rounded: dict[int, int] = {}
        threshold = options.garbage_collection_threshold
        self.collector = Collector(int(threshold * allowed)) if threshold and allowed is not None else None

    def allocate(self, size: int) -> int:
        """Take a block of at least ``size`` bytes; returns its address.

        Raises:
            ExhaustedError: neither a free block nor the driver has as much.
        """
        if self.divisions:
            rounded = self.rounded.get(size)
            if rounded is None:
                rounded = self.rounded[size] = rounding.block(size, self.divisions)
            size = rounded
        size = (size + _ROUNDING & ~_ROUNDING) or SMALLEST_BLOCK
        is_small = size <= SMALL_REQUEST
        pool = self.pools[is_small]
        place = self._fitting(pool, size)
        if place < len(pool):
            key = pool.pop(place)
            address, available = key & ADDRESS, key >> ADDRESS_BITS
            self.free.discard(address)
        else:
            address, available = self._new(size, is_small)
        left = available - size
        if left and (is_small or (left > self.spare and size < self.indivisible)):
            self._split(address, size, left, pool, small=is_small)
            available = size
        self.allocated += available
        return address

    def release(self, address: int) -> None:
        """Return a block, merging it with free neighbours."""
        sizes, free, before, after = self.sizes, self.free, self.before, self.after
        size = sizes[address]
        self.allocated -= size
        is_small = address in self.small
        pool = self.pools[is_small]
        following = after.get(address)
        if following in free:
            size += self._absorb(following, pool)
            self._link(address, after.pop(following, None))
        previous = before.get(address)
        if previous in free:
            available = sizes[previous]
            del pool[bisect_left(pool, available << ADDRESS_BITS | previous)]
            size += available
            del sizes[address], before[address]
            self._link(previous, after.pop(address, None))
            address = previous
        sizes[address] = size
        free.add(address)
        insort(pool, size << ADDRESS_BITS | address)
        if self.collector is not None:
            self.collector.note(address, small=is_small)

    def _fitting(self, pool: list[int], size: int) -> int:
        """The place in its pool of the block to take, or its end (``get_free_block``).

        With ``max_split_size_mb``, blocks beyond it are kept for requests beyond it, and these take none that
        is 20 MiB too large.
        """
        if self.collector is not None:
            self.collector.calls[size <= SMALL_REQUEST] += 1
        place = bisect_left(pool, size << ADDRESS_BITS)
        if self.unsplit != UNLIMITED and place < len(pool):
            available = pool[place] >> ADDRESS_BITS
            if available >= self.unsplit and (size < self.unsplit or available >= size + LARGE_SEGMENT):
                return len(pool)
        return place

    def _new(self, size: int, is_small: bool) -> tuple[int, int]:
        """Memory from the driver, after giving cached memory back if there is no other way (``malloc``)."""
        if self.collector is not None:
            self._collect()
        found = self._segment(size, is_small)
        if found is None and self._release_oversized(size, self.pools[is_small]):
            found = self._segment(size, is_small)
        if found is None:
            self.retries += 1
            self.release_cached()
            found = self._segment(size, is_small)
        if found is None:
            raise ExhaustedError(rounding.segment(size))
        self.highest = max(self.highest, self.reserved)
        return found

    def _segment(self, size: int, is_small: bool) -> tuple[int, int] | None:
        """Ask the driver for a segment (``alloc_block``); returns its address and size."""
        length = rounding.segment(size)
        if self.reserved + length > self.budget:
            return None
        self.frontier -= length
        address = self.frontier
        self.reserved += length
        self.sizes[address] = length
        if is_small:
            self.small.add(address)
        return address, length

    def _release_oversized(self, size: int, pool: list[int]) -> bool:
        """Give back just enough blocks that may not be split (``release_available_cached_blocks``)."""
        if self.unsplit == UNLIMITED:
            return False
        wanted = max(size, self.unsplit)
        place = bisect_left(pool, wanted << ADDRESS_BITS)
        if place < len(pool):
            self._give_back(pool[place], pool)
            return True
        released = 0
        while released < wanted and pool and pool[-1] >> ADDRESS_BITS >= self.unsplit:
            released += pool[-1] >> ADDRESS_BITS
            self._give_back(pool[-1], pool)
        return released >= wanted

    def release_cached(self) -> None:
        """Give back every segment without a block in use (``release_cached_blocks``)."""
        for pool in self.pools:
            for key in [key for key in pool if self._whole(key & ADDRESS)]:
                self._give_back(key, pool)

    def _collect(self) -> None:
        """Give back large segments that went unused for long (``garbage_collect_cached_blocks``)."""
        assert self.collector is not None
        pool = self.pools[0]
        excess = self.reserved - self.collector.threshold
        if excess > 0:
            whole = {key & ADDRESS: key >> ADDRESS_BITS for key in pool if self._whole(key & ADDRESS)}
            for address in self.collector.oldest(whole, excess):
                self._give_back(whole[address] << ADDRESS_BITS | address, pool)

    def _whole(self, address: int) -> bool:
        """Whether a block is all of its segment."""
        return address not in self.before and address not in self.after

    def _give_back(self, key: int, pool: list[int]) -> None:
        del pool[bisect_left(pool, key)]
        address = key & ADDRESS
        self.reserved -= self.sizes.pop(address)
        self.free.discard(address)
        self.small.discard(address)

    def _split(self, address: int, size: int, left: int, pool: list[int], *, small: bool) -> None:
        rest = address + size
        after, before = self.after, self.before
        self.sizes[address] = size
        self.sizes[rest] = left
        if small:
            self.small.add(rest)
        following = after.get(address)
        if following is not None:
            after[rest] = following
            before[following] = rest
        after[address] = rest
        before[rest] = address
        self.free.add(rest)
        insort(pool, left << ADDRESS_BITS | rest)
        if self.collector is not None:
            self.collector.note(rest, small=small)

    def _absorb(self, address: int, pool: list[int]) -> int:
        """Remove a free block that is being merged; returns its size."""
        size = self.sizes.pop(address)
        del pool[bisect_left(pool, size << ADDRESS_BITS | address)]
        self.free.discard(address)
        self.before.pop(address, None)
        return size

    def _link(self, address: int, following: int | None) -> None:
        if following is None:
            self.after.pop(address, None)
        else:
            self.after[address] = following
            self.before[following] = address
