"""PyTorch's CUDA caching allocator: which memory it reserves for a sequence of allocations and frees.

Rules of c10/cuda/CUDACachingAllocator.cpp for one stream and default options: sizes round up to
512 B; requests up to 1 MiB come from 2 MiB segments, below 10 MiB from 20 MiB segments, larger ones get
segments of their own rounded to 2 MiB; the best fitting free block is taken and split when what
remains is worth keeping; freed neighbours merge.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from memplan.domain.trace import Phase, Trace

SMALLEST_BLOCK = 512
SMALL_REQUEST = 2**20
SMALL_SEGMENT = 2 * 2**20
LARGE_SEGMENT = 20 * 2**20
LARGE_REQUEST = 10 * 2**20
SEGMENT_ROUNDING = 2 * 2**20

_ADDRESS_BITS = 56
_ADDRESS = (1 << _ADDRESS_BITS) - 1


@dataclass(slots=True)
class Peak:
    """The highest point of a stretch of events: bytes in use, the event it came with, bytes reserved."""

    allocated: int = 0
    event: int = -1
    reserved: int = 0


class Allocator:
    """Device memory as the caching allocator sees it.

    A block is known by its address. ``sizes`` holds every block, ``free`` those not in use; ``before`` and
    ``after`` link neighbours within a segment. Each pool is a sorted list of ``size << 56 | address``, so
    that the best fit is one bisection.

    Segments are placed downwards, as the driver does. Among equal blocks the lowest address wins, so this
    decides which of them is taken, and with it how large blocks get cut up: with ascending addresses
    runs with eager attention come out several percent too low, with descending ones they are exact.
    """

    __slots__ = ("after", "allocated", "before", "free", "frontier", "pools", "reserved", "sizes", "small")

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.before: dict[int, int] = {}
        self.after: dict[int, int] = {}
        self.free: set[int] = set()
        self.small: set[int] = set()
        self.pools: tuple[list[int], list[int]] = ([], [])
        self.frontier = 1 << (_ADDRESS_BITS - 1)
        self.allocated = 0
        self.reserved = 0

    def allocate(self, size: int) -> int:
        """Take a block of at least ``size`` bytes; returns its address."""
        size = -(-size // SMALLEST_BLOCK) * SMALLEST_BLOCK or SMALLEST_BLOCK
        is_small = size <= SMALL_REQUEST
        pool = self.pools[is_small]
        place = bisect_left(pool, size << _ADDRESS_BITS)
        if place < len(pool):
            key = pool.pop(place)
            address, available = key & _ADDRESS, key >> _ADDRESS_BITS
            self.free.discard(address)
        else:
            address, available = self._segment(size, is_small)
        left = available - size
        if left >= SMALLEST_BLOCK if is_small else left > SMALL_REQUEST:
            self._split(address, size, left, pool)
            available = size
        self.allocated += available
        return address

    def release(self, address: int) -> None:
        """Return a block, merging it with free neighbours."""
        sizes, free = self.sizes, self.free
        size = sizes[address]
        self.allocated -= size
        pool = self.pools[address in self.small]
        following = self.after.get(address)
        if following is not None and following in free:
            size += self._absorb(following, pool)
            self._link(address, self.after.pop(following, None))
        previous = self.before.get(address)
        if previous is not None and previous in free:
            del pool[bisect_left(pool, sizes[previous] << _ADDRESS_BITS | previous)]
            size += sizes[previous]
            del sizes[address]
            self.before.pop(address, None)
            self._link(previous, self.after.pop(address, None))
            address = previous
        sizes[address] = size
        free.add(address)
        insort(pool, size << _ADDRESS_BITS | address)

    def _segment(self, size: int, is_small: bool) -> tuple[int, int]:
        """Ask the driver for a segment (``get_allocation_size``)."""
        if is_small:
            length = SMALL_SEGMENT
        elif size < LARGE_REQUEST:
            length = LARGE_SEGMENT
        else:
            length = -(-size // SEGMENT_ROUNDING) * SEGMENT_ROUNDING
        self.frontier -= length
        address = self.frontier
        self.reserved += length
        self.sizes[address] = length
        if is_small:
            self.small.add(address)
        return address, length

    def _split(self, address: int, size: int, left: int, pool: list[int]) -> None:
        rest = address + size
        self.sizes[address] = size
        self.sizes[rest] = left
        if address in self.small:
            self.small.add(rest)
        self._link(rest, self.after.get(address))
        self._link(address, rest)
        self.free.add(rest)
        insort(pool, left << _ADDRESS_BITS | rest)

    def _absorb(self, address: int, pool: list[int]) -> int:
        """Remove a free block that is being merged; returns its size."""
        size = self.sizes.pop(address)
        del pool[bisect_left(pool, size << _ADDRESS_BITS | address)]
        self.free.discard(address)
        self.before.pop(address, None)
        return size

    def _link(self, address: int, following: int | None) -> None:
        if following is None:
            self.after.pop(address, None)
        else:
            self.after[address] = following
            self.before[following] = address


@dataclass(slots=True)
class Replay:
    """What a trace did to the allocator: the highest point of each phase, and of the whole run."""

    phases: dict[Phase, Peak]
    peak: Peak


def replay(trace: Trace, steps: int = 3) -> Replay:
    """Feed a trace to an empty allocator, going through its last cycle until ``steps`` cycles were made.

    One step understates fragmentation; with three, reserved memory has settled.
    """
    allocator = Allocator()
    addresses: dict[int, int] = {}
    phases: dict[Phase, Peak] = {}
    bounds = [*trace.phases, (len(trace.events), Phase.LOAD)]
    stretches = [(start, bounds[index + 1][0], phase) for index, (start, phase) in enumerate(trace.phases)]
    cycle = trace.cycles[-1] if trace.cycles else len(trace.events)
    _run(trace, stretches, allocator, addresses, phases, set())
    again = [stretch for stretch in stretches if stretch[0] >= cycle]
    for _ in range(steps - len(trace.cycles) if trace.cycles else 0):
        _carry_over(trace, cycle, addresses)
        _run(trace, again, allocator, addresses, phases, trace.once)
    peak = max(phases.values(), key=lambda found: found.allocated, default=Peak())
    return Replay(phases, Peak(peak.allocated, peak.event, allocator.reserved))


def _run(
    trace: Trace,
    stretches: list[tuple[int, int, Phase]],
    allocator: Allocator,
    addresses: dict[int, int],
    phases: dict[Phase, Peak],
    made: set[int],
) -> None:
    events, sizes = trace.events, trace.sizes
    allocate, release = allocator.allocate, allocator.release
    for start, end, phase in stretches:
        peak = phases.setdefault(phase, Peak())
        highest = peak.allocated
        for index in range(start, end):
            block = events[index]
            if block < 0:
                release(addresses.pop(~block))
                continue
            if block in made:
                continue
            addresses[block] = allocate(sizes[block])
            if allocator.allocated > highest:
                highest = allocator.allocated
                peak.event = index
        peak.allocated = highest
        peak.reserved = max(peak.reserved, allocator.reserved)


def _carry_over(trace: Trace, cycle: int, addresses: dict[int, int]) -> None:
    """Let blocks the last cycle leaves behind play the part of those it found and freed.

    A cycle that starts with, say, the previous step's logits alive also ends with its own.
    """
    made: set[int] = set()
    found: list[int] = []
    for block in trace.events[cycle:]:
        if block >= 0:
            made.add(block)
        elif ~block in made:
            made.discard(~block)
        else:
            found.append(~block)
    made -= trace.once
    for old, new in zip(sorted(found), sorted(made), strict=True):
        addresses[old] = addresses.pop(new)


def alive(trace: Trace, event: int) -> list[int]:
    """Blocks in use right after an event of a cycle that is not the first, in order of allocation."""
    blocks = set(trace.once)
    for block in trace.events[: event + 1]:
        if block >= 0:
            blocks.add(block)
        else:
            blocks.discard(~block)
    return sorted(blocks)
