"""A trace through the caching allocator: what is reserved, when, and where it stops if memory is short."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.allocator import AllocatorOptions
from memplan.domain.trace import Phase, Tag, Trace
from memplan.simulator.allocator import ADDRESS_BITS, Allocator, ExhaustedError
from memplan.simulator.exact import ExactAllocator
from memplan.simulator.expandable import ExpandableAllocator
from memplan.simulator.streams import Streams, on_streams

ADDRESSES = 1 << (ADDRESS_BITS - 2)
"""Bytes of a trace, 16 PiB, beyond which there are no addresses: nothing is told of rounding and caching."""

STEPS = 3
"""Optimizer steps that are replayed: one understates fragmentation; with three, it has settled."""


@dataclass(slots=True)
class Peak:
    """The highest point of a stretch of events: bytes in use, the event it came with, bytes reserved."""

    allocated: int = 0
    event: int = -1
    reserved: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The allocation that failed: what was asked of the driver, what was in use and reserved then."""

    asked: int
    allocated: int
    reserved: int
    phase: Phase
    tag: Tag


@dataclass(slots=True)
class Replay:
    """What a trace did to the allocator: the highest point of each phase, and of the whole run.

    ``retries`` counts how often cached memory was given back to make room; ``failure`` is where the run ended
    early, if it did.
    """

    phases: dict[Phase, Peak]
    peak: Peak
    retries: int = 0
    failure: Failure | None = None


State = tuple[dict[int, int], set[int], dict[int, int]]
"""Sizes of all blocks, which of them are free, and where those of the trace lie."""


class _Run:
    """A replay under way: where every block of the trace lies."""

    __slots__ = ("addresses", "allocator", "failure", "phases", "sizes", "trace")

    def __init__(self, trace: Trace, allocator: Allocator | Streams) -> None:
        self.trace = trace
        streamed = isinstance(allocator, Streams)
        self.sizes = on_streams(trace.sizes, trace.streams) if streamed else trace.sizes
        self.allocator = allocator
        self.addresses: dict[int, int] = {}
        self.phases: dict[Phase, Peak] = {}
        self.failure: Failure | None = None

    def through(self, stretches: list[tuple[int, int, Phase]], made: set[int]) -> bool:
        """Play stretches of events, without the allocations of blocks ``made`` before; False if one fails."""
        for start, end, phase in stretches:
            peak = self.phases.setdefault(phase, Peak())
            before = self.allocator.allocated
            self._stretch(start, end, phase, made)
            if self.failure is not None:
                return False
            if not peak.allocated:
                # Nothing was allocated: the phase is highest when it begins.
                peak.allocated, peak.event = before, start - 1
            peak.reserved = max(peak.reserved, self.allocator.reserved)
        return True

    def _stretch(self, start: int, end: int, phase: Phase, made: set[int]) -> None:
        events, sizes, addresses, allocator = (
            self.trace.events,
            self.sizes,
            self.addresses,
            self.allocator,
        )
        allocate, release = allocator.allocate, allocator.release
        peak = self.phases[phase]
        highest = peak.allocated
        block = 0
        try:
            for index in range(start, end):
                block = events[index]
                if block < 0:
                    release(addresses.pop(~block))
                    continue
                if block in made:
                    continue
                addresses[block] = allocate(sizes[block])
                if allocator.allocated > highest:
                    peak.allocated = highest = allocator.allocated
                    peak.event = index
        except ExhaustedError as error:
            self.failure = Failure(
                asked=error.asked,
                allocated=allocator.allocated,
                reserved=allocator.reserved,
                phase=phase,
                tag=self.trace.tags[block],
            )

    def state(self) -> State | None:
        """What the next cycle depends on; None if it counts what happened before."""
        allocator = self.allocator
        if allocator.collector is not None or allocator.retries:
            return None
        return dict(allocator.sizes), set(allocator.free), dict(self.addresses)

    def carry_over(self, cycle: int) -> None:
        """Let blocks the last cycle leaves behind play the part of those it found and freed.

        A cycle that starts with, say, the previous step's logits alive also ends with its own.
        """
        made: set[int] = set()
        found: list[int] = []
        for block in self.trace.events[cycle:]:
            if block >= 0:
                made.add(block)
            elif ~block in made:
                made.discard(~block)
            else:
                found.append(~block)
        made -= self.trace.once
        for old, new in zip(sorted(found), sorted(made), strict=True):
            self.addresses[old] = self.addresses.pop(new)


def replay(
    trace: Trace,
    steps: int = STEPS,
    *,
    options: AllocatorOptions | None = None,
    budget: int | None = None,
    allowed: int | None = None,
    exact: bool = False,
) -> Replay:
    """Feed a trace to an empty allocator, going through its last cycle until ``steps`` cycles were made.

    ``budget`` is what the driver can give, ``allowed`` the share set for the process; without either
    nothing fails. With ``exact`` nothing is rounded or cached: what is asked for is taken, as in host memory.
    So it is with a trace of more bytes than there are addresses.
    """
    kind = ExpandableAllocator if options is not None and options.expandable_segments else Allocator
    beyond = sum(trace.sizes) > ADDRESSES
    kind = ExactAllocator if exact or beyond else kind
    streamed = Streams(kind, options, budget, allowed) if trace.streams and not beyond else None
    allocator = streamed or kind(options, budget, allowed)
    run = _Run(trace, allocator)
    bounds = [*trace.phases, (len(trace.events), Phase.LOAD)]
    stretches = [(start, bounds[index + 1][0], phase) for index, (start, phase) in enumerate(trace.phases)]
    cycle = trace.cycles[-1] if trace.cycles else len(trace.events)
    again = [stretch for stretch in stretches if stretch[0] >= cycle]
    going = run.through(stretches, set())
    before: State | None = None
    for _ in range(steps - len(trace.cycles) if trace.cycles else 0):
        if going:
            run.carry_over(cycle)
            state = run.state()
            if state is not None and state == before:
                # The cycle left everything as it found it: so will all others.
                break
            before = state
            going = run.through(again, trace.once)
    peak = max(run.phases.values(), key=lambda found: found.allocated, default=Peak())
    return Replay(
        run.phases, Peak(peak.allocated, peak.event, allocator.highest), allocator.retries, run.failure
    )


def alive(trace: Trace, event: int) -> list[int]:
    """Blocks in use right after an event of a cycle that is not the first, in order of allocation."""
    blocks = set(trace.once)
    for block in trace.events[: event + 1]:
        if block >= 0:
            blocks.add(block)
        else:
            blocks.discard(~block)
    return sorted(blocks)
