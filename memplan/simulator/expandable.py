"""The caching allocator with ``expandable_segments:True``: one range of addresses per pool, mapped as needed.

Memory is mapped in granules of 2 MiB (small pool) or 20 MiB. Blocks free next to addresses without memory can
grow. Source: ``try_allocate_expandable_block``, ``map_block`` and ``unmap_block`` in
c10/cuda/CUDACachingAllocator.cpp.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from memplan.domain.allocator import AllocatorOptions
from memplan.simulator.allocator import ADDRESS, ADDRESS_BITS, UNLIMITED, Allocator
from memplan.simulator.rounding import LARGE_SEGMENT, SMALL_SEGMENT, SMALLEST_BLOCK

_RANGE = LARGE_SEGMENT << 27
"""Bytes of addresses of a pool: more than any run asks for; a multiple of both granules."""

GRANULES = (LARGE_SEGMENT, SMALL_SEGMENT)


class ExpandableAllocator(Allocator):
    """``unmapped`` lists by address the blocks of each pool without memory; ``bare`` are all of them."""

    __slots__ = ("bare", "unmapped")

    def __init__(
        self, options: AllocatorOptions | None = None, budget: int | None = None, allowed: int | None = None
    ) -> None:
        super().__init__(options, budget, allowed)
        self.collector = None
        self.spare = SMALLEST_BLOCK - 1
        self.indivisible = UNLIMITED
        self.unmapped: tuple[list[int], list[int]] = ([_RANGE], [3 * _RANGE])
        self.bare = {start for (start,) in self.unmapped}
        for start in self.bare:
            self.sizes[start] = _RANGE
        self.small.add(3 * _RANGE)

    def _fitting(self, pool: list[int], size: int) -> int:
        """The best fit, where a block that can grow counts with all it can grow to."""
        place = bisect_left(pool, size << ADDRESS_BITS)
        # Only a block that can grow may count more than a larger one.
        while place + 1 < len(pool) and self.after.get(pool[place] & ADDRESS) in self.bare:
            if self._extent(pool[place + 1]) >= self._extent(pool[place]):
                break
            place += 1
        return place

    def _extent(self, key: int) -> int:
        following = self.after.get(key & ADDRESS)
        room = self.sizes[following] if following in self.bare else 0
        return (key >> ADDRESS_BITS) + room

    def _segment(self, size: int, is_small: bool) -> tuple[int, int] | None:
        """Map memory behind a free block, or at the lowest addresses with room."""
        address = self._candidate(size, is_small)
        if address in self.bare:
            mapped = self._map(address, min(self.sizes[address], size), is_small)
            if mapped is None:
                return None
            address = mapped
        while self.sizes[address] < size:
            following = self.after[address]
            mapped = self._map(following, min(size - self.sizes[address], self.sizes[following]), is_small)
            if mapped is None:
                return None
            address = mapped
        pool = self.pools[is_small]
        available = self.sizes[address]
        del pool[bisect_left(pool, available << ADDRESS_BITS | address)]
        self.free.discard(address)
        return address, available

    def _candidate(self, size: int, is_small: bool) -> int:
        """The lowest block without memory, or the free one before it, that ``size`` bytes can be had from."""
        for address in self.unmapped[is_small]:
            previous = self.before.get(address)
            start = previous if previous is not None and previous in self.free else address
            if self._room(start, size) >= size:
                return start
        raise AssertionError("a pool's addresses do not end")

    def _room(self, start: int, wanted: int) -> int:
        """Bytes of neighbouring blocks, free or without memory, as far as they are needed."""
        room = 0
        at: int | None = start
        while room < wanted and at is not None and (at in self.free or at in self.bare):
            room += self.sizes[at]
            at = self.after.get(at)
        return room

    def _map(self, address: int, size: int, is_small: bool) -> int | None:
        """Give memory to the first bytes of a block without any; returns the free block they are in then."""
        granule = GRANULES[is_small]
        length = -(-size // granule) * granule
        if self.reserved + length > self.budget:
            return None
        self.unmapped[is_small].remove(address)
        self.bare.discard(address)
        rest = self.sizes[address] - length
        if rest:
            self.sizes[address + length] = rest
            if is_small:
                self.small.add(address + length)
            self._link(address + length, self.after.get(address))
            self._link(address, address + length)
            insort(self.unmapped[is_small], address + length)
            self.bare.add(address + length)
        self.reserved += length
        # As a block in use that is returned, it merges with free neighbours.
        previous = self.before.get(address)
        self.sizes[address] = length
        self.allocated += length
        self.release(address)
        return previous if previous is not None and previous in self.free else address

    def _release_oversized(self, size: int, pool: list[int]) -> bool:
        """Blocks that grow are never given back one by one."""
        del size, pool
        return False

    def release_cached(self) -> None:
        """Take the memory of all whole granules within free blocks (``unmap_block``)."""
        for is_small, granule in ((False, LARGE_SEGMENT), (True, SMALL_SEGMENT)):
            for key in list(self.pools[is_small]):
                self._unmap(key & ADDRESS, granule, is_small)

    def _unmap(self, address: int, granule: int, is_small: bool) -> None:
        size = self.sizes[address]
        start = -(-address // granule) * granule
        end = (address + size) // granule * granule
        if start >= end:
            return
        pool = self.pools[is_small]
        del pool[bisect_left(pool, size << ADDRESS_BITS | address)]
        self.free.discard(address)
        if start > address:
            self._cut(address, start, is_small)
            self._keep(address, pool)
        if end < address + size:
            self._cut(start, end, is_small)
            self._keep(end, pool)
        self.reserved -= end - start
        insort(self.unmapped[is_small], start)
        self.bare.add(start)
        self._join_unmapped(start, is_small)

    def _keep(self, address: int, pool: list[int]) -> None:
        self.free.add(address)
        insort(pool, self.sizes[address] << ADDRESS_BITS | address)

    def _cut(self, address: int, at: int, is_small: bool) -> None:
        """Make two blocks of one."""
        end = address + self.sizes[address]
        self.sizes[address], self.sizes[at] = at - address, end - at
        if is_small:
            self.small.add(at)
        self._link(at, self.after.get(address))
        self._link(address, at)

    def _join_unmapped(self, address: int, is_small: bool) -> None:
        places = self.unmapped[is_small]
        following = self.after.get(address)
        if following is not None and following in self.bare:
            self._swallow(address, following, places)
        previous = self.before.get(address)
        if previous is not None and previous in self.bare:
            self._swallow(previous, address, places)

    def _swallow(self, address: int, following: int, places: list[int]) -> None:
        self.sizes[address] += self.sizes.pop(following)
        places.remove(following)
        self.bare.discard(following)
        self.before.pop(following, None)
        self._link(address, self.after.pop(following, None))
