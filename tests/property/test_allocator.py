"""The caching allocator's model against a slow and independent one, on random sequences.

The reference knows nothing of sorted pools or linked neighbours: it keeps every segment as a list of
blocks, looks at all of them for each request, and joins neighbours by walking the list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.simulator.allocator import Allocator

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

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.lowest = 2**50

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
        segment, block = self.fitting(small, size) or self.grown(small, size)
        # "A block is split when the rest is at least 512 B (small pool) or more than 1 MiB (large pool)."
        rest = block.size - size
        if (rest >= 512) if small else (rest > MIB):
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
        return segment, block

    def grown(self, small: bool, size: int) -> tuple[Segment, Block]:
        # "2 MiB segments; below 10 MiB from 20 MiB segments; larger ones rounded up to 2 MiB."
        if small:
            length = 2 * MIB
        elif size < 10 * MIB:
            length = 20 * MIB
        else:
            length = 0
            while length < size:
                length += 2 * MIB
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
