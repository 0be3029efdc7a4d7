"""The peak as a story: which tensors are alive then, and what they wait for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from memplan.domain.bytes import Bytes
from memplan.domain.target import ASSUMED_CAPABILITY, Target
from memplan.domain.trace import Phase, Tag, Trace
from memplan.domain.workload import Workload
from memplan.estimate import trace_of
from memplan.simulator.replay import alive, replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """When tensors are given up: the phase, and the op that had just allocated its result (None before any).

    A tensor saved for backward goes when the node that saved it has run, so this op belongs to that node.
    """

    phase: Phase
    scope: str
    op: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Tensors alike that are alive at the peak.

    ``release`` is None for what stays for as long as the run lasts. ``next_step`` says that they are given up
    only in the step after (outputs that a training loop keeps).
    """

    tag: Tag
    count: int
    release: Release | None
    next_step: bool = False

    @property
    def bytes(self) -> Bytes:
        """All of them together."""
        size = self.count * self.tag[4].itemsize
        for side in self.tag[3]:
            size *= side
        return Bytes(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The op that made the peak, the phase it ran in, and everything alive, largest first."""

    phase: Phase
    tag: Tag | None
    held: tuple[Held, ...]

    def of(self, component: str) -> tuple[Held, ...]:
        """What of a component is alive."""
        return tuple(item for item in self.held if item.tag[0] == component)


def story(workload: Workload, target: Target | None = None) -> Story:
    """Simulate a run and tell its allocated peak.

    Raises:
        FieldError: the workload asks for something that has no model at all.
    """
    trace = trace_of(workload, target.compute_capability if target else ASSUMED_CAPABILITY)
    event = replay(trace, options=workload.allocator).peak.event
    return told(trace, event)


def told(trace: Trace, event: int) -> Story:
    """The story of a trace at one of its events."""
    blocks = alive(trace, event)
    releases = _releases(trace, event, set(blocks))
    kinds: dict[Tag, list[int]] = {}
    for block in blocks:
        kinds.setdefault(trace.tags[block], []).append(block)
    first = trace.cycles[0] if trace.cycles else len(trace.events)
    staying = trace.once | {block for block in trace.events[:first] if block >= 0}
    held = [_held(tag, alike, staying, releases) for tag, alike in kinds.items()]
    newest = trace.events[event] if event >= 0 else -1
    return Story(
        phase=_phase_at(trace, event),
        tag=trace.tags[newest] if newest >= 0 else None,
        held=tuple(sorted(held, key=lambda item: (-item.bytes, item.tag[1:3]))),
    )


def _held(tag: Tag, blocks: list[int], staying: set[int], releases: dict[int, Release]) -> Held:
    """Most tensors of a kind share a fate; that of the majority is told."""
    fates = Counter(releases.get(block) for block in blocks)
    release = max(fates, key=lambda fate: fates[fate])
    later = release is None and staying.isdisjoint(blocks)
    return Held(tag=tag, count=len(blocks), release=release, next_step=later)


def _releases(trace: Trace, event: int, blocks: set[int]) -> dict[int, Release]:
    """When each of the blocks is freed after an event."""
    found: dict[int, Release] = {}
    phases = iter([*trace.phases, (len(trace.events), Phase.LOAD)])
    phase, (upcoming, following) = Phase.LOAD, next(phases)
    newest: Tag | None = None
    for index, moved in enumerate(trace.events):
        while index >= upcoming:
            phase = following
            upcoming, following = next(phases)
        if moved >= 0:
            newest = trace.tags[moved]
        elif index > event and ~moved in blocks and newest is not None:
            found[~moved] = Release(phase=phase, scope=newest[1], op=newest[2])
    return found


def _phase_at(trace: Trace, event: int) -> Phase:
    found = Phase.LOAD
    for start, phase in trace.phases:
        if start > event:
            break
        found = phase
    return found
