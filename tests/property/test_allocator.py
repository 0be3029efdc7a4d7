"""The caching allocator's model against a slow and independent one, on random sequences.

The reference knows nothing of sorted pools or linked neighbours: it keeps every segment as a list of
blocks, looks at all of them for each request, and joins neighbours by walking the list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.allocator import AllocatorOptions
from memplan.simulator.allocator import ADDRESS, ADDRESS_BITS, Allocator, ExhaustedError
from memplan.simulator.expandable import GRANULES, ExpandableAllocator

MIB = 2**20


@dataclass
class Block:
    address: int
    size: int
    used: bool = False


@dataclass
class Segment:
    small: bool
    blocks: list[Block] = field(default_factory=list)


class Reference:
    """Documented rules of c10's CUDACachingAllocator, one after the other."""

    def __init__(self, budget: int = 2**62, unsplit: int = 2**62) -> None:
        self.segments: list[Segment] = []
        self.lowest = 2**50
        self.budget = budget
        self.unsplit = unsplit

    @property
    def reserved(self) -> int:
        return sum(block.size for segment in self.segments for block in segment.blocks)

    @property
    def allocated(self) -> int:
        return sum(block.size for segment in self.segments for block in segment.blocks if block.used)

    def allocate(self, asked: int) -> Block:
        # "Sizes round up to 512 B."
        size = 512
        while size < asked:
            size += 512
        # "Requests up to 1 MiB come from the small pool."
        small = size <= MIB
        found = self.fitting(small, size) or self.grown(small, size)
        if found is None and self.give_back_oversized(small, size):
            found = self.grown(small, size)
        if found is None:
            self.give_back_unused()
            found = self.grown(small, size)
        if found is None:
            raise MemoryError
        segment, block = found
        # "A block is split when the rest is at least 512 B (small pool) or more than 1 MiB (large pool)."
        rest = block.size - size
        # "Larger blocks than ``max_split_size`` are never split."
        if (rest >= 512) if small else (rest > MIB and size < self.unsplit):
            segment.blocks.insert(segment.blocks.index(block) + 1, Block(block.address + size, rest))
            block.size = size
        block.used = True
        return block

    def fitting(self, small: bool, size: int) -> tuple[Segment, Block] | None:
        # "Best fit by (size, address) within a pool."
        found = [
            (block.size, block.address, segment, block)
            for segment in self.segments
            for block in segment.blocks
            if segment.small == small and not block.used and block.size >= size
        ]
        if not found:
            return None
        _, _, segment, block = min(found, key=lambda entry: entry[:2])
        # "Do not return an oversized block for a large request", "but within a limit".
        if size < self.unsplit <= block.size:
            return None
        if size >= self.unsplit and block.size >= size + 20 * MIB:
            return None
        return segment, block

    def unused(self) -> list[Segment]:
        return [segment for segment in self.segments if not any(block.used for block in segment.blocks)]

    def give_back_unused(self) -> None:
        # "Free all non-split cached blocks."
        for segment in self.unused():
            self.segments.remove(segment)

    def give_back_oversized(self, small: bool, size: int) -> bool:
        # "Free one or more oversize blocks, but only enough of them to satisfy the target size."
        if self.unsplit == 2**62:
            return False
        key = max(size, self.unsplit)
        pool = sorted(
            (segment.blocks[0].size, segment.blocks[0].address, number)
            for number, segment in enumerate(self.segments)
            if segment.small == small and segment.blocks[0].size >= self.unsplit and segment in self.unused()
        )
        enough = [entry for entry in pool if entry[0] >= key]
        going, freed = enough[:1], sum(entry[0] for entry in enough[:1])
        while not enough and pool and freed < key:
            going.append(pool.pop())
            freed += going[-1][0]
        gone = {number for _, _, number in going}
        self.segments = [segment for number, segment in enumerate(self.segments) if number not in gone]
        return freed >= key

    def grown(self, small: bool, size: int) -> tuple[Segment, Block] | None:
        # "2 MiB segments; below 10 MiB from 20 MiB segments; larger ones rounded up to 2 MiB."
        if small:
            length = 2 * MIB
        elif size < 10 * MIB:
            length = 20 * MIB
        else:
            length = 0
            while length < size:
                length += 2 * MIB
        if self.reserved + length > self.budget:
            return None
        self.lowest -= length
        segment = Segment(small, [Block(self.lowest, length)])
        self.segments.append(segment)
        return segment, segment.blocks[0]

    def release(self, block: Block) -> None:
        # "Freed neighbours merge."
        block.used = False
        for segment in self.segments:
            if block in segment.blocks:
                segment.blocks = self.joined(segment.blocks)

    @staticmethod
    def joined(blocks: list[Block]) -> list[Block]:
        found: list[Block] = []
        for block in blocks:
            if found and not found[-1].used and not block.used:
                found[-1].size += block.size
            else:
                found.append(block)
        return found


SIZES = st.one_of(
    st.integers(0, 3000),
    st.integers(1, 3 * MIB),
    st.integers(1, 50 * MIB),
    st.sampled_from([512, MIB - 512, MIB, MIB + 1, 2 * MIB, 10 * MIB - 512, 10 * MIB, 19 * MIB, 20 * MIB]),
)
EVENTS = st.lists(st.one_of(SIZES, st.floats(0, 0.999)), max_size=120)
"""A size is allocated; a fraction picks one of the blocks in use, which is freed."""


@settings(max_examples=400, deadline=None)
@given(EVENTS)
def test_allocated_and_reserved_follow_the_documented_rules_after_each_event(
    events: list[int | float],
) -> None:
    ours, theirs = Allocator(), Reference()
    used: list[tuple[int, Block]] = []
    for event in events:
        if isinstance(event, int):
            used.append((ours.allocate(event), theirs.allocate(event)))
        elif used:
            address, block = used.pop(int(event * len(used)))
            ours.release(address)
            theirs.release(block)
        assert (ours.allocated, ours.reserved) == (theirs.allocated, theirs.reserved)


BUDGETS = st.one_of(st.just(2**62), st.integers(2 * MIB, 400 * MIB))
SPLITS = st.sampled_from([None, 21, 32, 64])


@settings(max_examples=400, deadline=None)
@given(EVENTS, BUDGETS, SPLITS)
def test_memory_is_given_back_and_runs_out_as_documented(
    events: list[int | float], budget: int, split: int | None
) -> None:
    ours = Allocator(AllocatorOptions(max_split_size_mb=split), budget)
    theirs = Reference(budget, 2**62 if split is None else split * MIB)
    used: list[tuple[int, Block]] = []
    for event in events:
        if isinstance(event, int):
            try:
                block = theirs.allocate(event)
            except MemoryError:
                with pytest.raises(ExhaustedError):
                    ours.allocate(event)
            else:
                used.append((ours.allocate(event), block))
        elif used:
            address, block = used.pop(int(event * len(used)))
            ours.release(address)
            theirs.release(block)
        assert (ours.allocated, ours.reserved) == (theirs.allocated, theirs.reserved)
        assert ours.reserved <= min(budget, ours.highest)


@settings(max_examples=400, deadline=None)
@given(EVENTS, BUDGETS)
def test_expandable_segments_map_whole_granules_that_never_overlap_and_merge_completely(
    events: list[int | float], budget: int
) -> None:
    allocator = ExpandableAllocator(budget=budget)
    used: list[int] = []
    for event in events:
        if isinstance(event, int):
            try:
                used.append(allocator.allocate(event))
            except ExhaustedError:
                # Nothing but granules with a block in them is left, and another does not fit in.
                small = event <= MIB
                assert allocator.reserved + (2 if small else 20) * MIB > budget or not small
                assert not any(key >> ADDRESS_BITS >= max(event, 1) for key in allocator.pools[small])
        elif used:
            allocator.release(used.pop(int(event * len(used))))
        check_expandable(allocator, used)
        assert allocator.reserved <= budget
    for address in used:
        allocator.release(address)
    check_expandable(allocator, [])
    assert allocator.allocated == 0


def check_expandable(allocator: ExpandableAllocator, used: list[int]) -> None:
    """Blocks tile the addresses of both pools; no two neighbours are both free, or both without memory."""
    unmapped = {address for places in allocator.unmapped for address in places}
    assert not unmapped & allocator.free
    assert set(allocator.sizes) == unmapped | allocator.free | set(used)
    mapped = sum(size for address, size in allocator.sizes.items() if address not in unmapped)
    assert mapped == allocator.reserved
    assert allocator.allocated == sum(allocator.sizes[address] for address in used)
    for address, size in allocator.sizes.items():
        following = allocator.after.get(address)
        if following is None:
            continue
        assert following == address + size
        assert allocator.before[following] == address
        assert not {address, following} <= unmapped
        assert not {address, following} <= allocator.free
    for is_small, granule in enumerate(GRANULES):
        pool = allocator.pools[is_small]
        assert pool == sorted(pool)
        assert all(allocator.sizes[key & ADDRESS] == key >> ADDRESS_BITS for key in pool)
        assert all(address % granule == 0 for address in allocator.unmapped[is_small])


def test_expandable_segments_hold_what_fragments_without_them() -> None:
    """The case of a growing cache: each request a little larger than what was freed before."""
    plain, expandable = Allocator(), ExpandableAllocator()
    for allocator in (plain, expandable):
        held = allocator.allocate(40 * MIB)
        for size in range(42, 82, 2):
            grown = allocator.allocate(size * MIB)
            allocator.release(held)
            held = grown
    assert plain.reserved > 1000 * MIB
    assert expandable.reserved < plain.reserved / 4


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_blocks_in_use_never_overlap_and_what_is_freed_can_be_had_again(events: list[int | float]) -> None:
    allocator = Allocator()
    used: list[tuple[int, int]] = []
    for event in events:
        if isinstance(event, int):
            used.append((allocator.allocate(event), event))
        elif used:
            allocator.release(used.pop(int(event * len(used)))[0])
    spans = sorted((address, address + size) for address, size in used)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert sum(size for _, size in used) <= allocator.allocated <= allocator.reserved
    for address, _ in used:
        allocator.release(address)
    assert allocator.allocated == 0
    before = allocator.reserved
    for _, size in sorted(used, key=lambda entry: -entry[1]):
        allocator.release(allocator.allocate(size))
    assert allocator.reserved == before
