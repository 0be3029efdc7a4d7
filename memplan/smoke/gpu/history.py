"""The allocator's own history as a trace: every allocation with what it is and when, and where it failed.

History has addresses and sizes and no names. Marks, taken by the meter while the run goes on, say where in
it a phase began and what lay at which address; the rest follows from the phase.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Tag, Trace

ROUNDING = 512
"""The allocator gives out multiples of this (``kMinBlockSize`` in c10/core/CachingDeviceAllocator.h)."""

LOGITS = "logits_and_loss"
WORKSPACE = "workspace"

THREADS = 2
"""Threads that multiply matrices: the one that runs forward, and the autograd engine's."""

_OTHERS = {Phase.BACKWARD: "temporaries", Phase.OPTIMIZER: "temporaries"}
"""What an allocation without a name is in a phase; in others it is an activation."""

Noted = tuple[tuple[int, Tag], ...]
"""What lies at an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that is known of the run once ``position`` allocations were made.

    ``phase`` begins there, ``logits`` are made from there on or no more, ``noted`` lies at its addresses.
    """

    position: int
    phase: Phase | None = None
    logits: bool | None = None
    noted: Noted = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The allocation that was refused: its bytes, rounded up to a block's, and the phase."""

    tried: Bytes
    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A run's trace, where it was highest, and the allocation it died of if there was one.

    ``highest`` is the last event of the moment with most bytes in use, -1 of an empty trace.
    """

    trace: Trace
    highest: int
    failure: Failure | None = None

    def shares(self, event: int) -> tuple[tuple[str, Bytes], ...]:
        """Bytes in use after an event, by component, as they were asked for; the largest first."""
        alive: set[int] = set()
        for block in self.trace.events[: event + 1]:
            if block >= 0:
                alive.add(block)
            else:
                alive.discard(~block)
        found: dict[str, int] = {}
        for block in alive:
            component = self.trace.tags[block][0]
            found[component] = found.get(component, 0) + self.trace.sizes[block]
        return tuple((name, Bytes(size)) for name, size in sorted(found.items(), key=lambda item: -item[1]))

    def at_the_peak(self) -> tuple[tuple[str, Bytes], ...]:
        """What was in use when most was."""
        return self.shares(self.highest)

    def at_the_end(self) -> tuple[tuple[str, Bytes], ...]:
        """What was in use when the run died, or was over."""
        return self.shares(len(self.trace.events) - 1)


def past(entries: Sequence[Mapping[str, Any]], marks: Iterable[Mark], workspace: int = 0) -> Past:
    """Put history and marks together; everything after a first failure is left out.

    Args:
        entries: the allocator's actions; frees of what was there before are not counted.
        marks: in order of position.
        workspace: bytes that cuBLAS takes for good, once for each thread that multiplies.
    """
    reader = _Reader()
    waiting = list(reversed(list(marks)))
    failure = None
    for entry in entries:
        # Frees move no mark: what lies at an address is what was allocated there last.
        while waiting and waiting[-1].position <= len(reader.trace.sizes):
            reader.mark(waiting.pop())
        if entry["action"] == "oom":
            failure = Failure(tried=Bytes(entry["size"]), phase=reader.phase)
            break
        reader.play(entry)
    else:
        while waiting:
            reader.mark(waiting.pop())
    reader.name_workspaces(workspace)
    return Past(trace=reader.trace, highest=_highest(reader.trace), failure=failure)


class _Reader:
    """A trace under way: which of its blocks lies at which address."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.phase = Phase.LOAD
        self.logits = False
        self.blocks: dict[int, int] = {}

    def mark(self, mark: Mark) -> None:
        if mark.phase is not None:
            self.phase, self.logits = mark.phase, False
            self.trace.enter(mark.phase)
        if mark.logits is not None:
            self.logits = mark.logits
        for address, tag in mark.noted:
            if address in self.blocks:
                self.trace.tags[self.blocks[address]] = tag

    def play(self, entry: Mapping[str, Any]) -> None:
        if entry["action"] == "alloc":
            size = int(entry["size"])
            tag = (self._component(), "", "", (size,), Dtype.UINT8)
            self.blocks[entry["addr"]] = self.trace.allocate(size, tag)
        elif entry["action"] == "free_requested" and entry["addr"] in self.blocks:
            self.trace.free(self.blocks.pop(entry["addr"]))

    def name_workspaces(self, size: int) -> None:
        """The first blocks of that size without a name that stay: the main thread's and the engine's."""
        tags, sizes = self.trace.tags, self.trace.sizes
        alike = [
            block for block in sorted(self.blocks.values()) if sizes[block] == size and not tags[block][2]
        ]
        for block in alike[:THREADS]:
            tags[block] = (WORKSPACE, "cublas", "workspace", (size,), Dtype.UINT8)

    def _component(self) -> str:
        return LOGITS if self.logits else _OTHERS.get(self.phase, "activations")


def _highest(trace: Trace) -> int:
    """The event with which most bytes were in use, as the allocator counts them."""
    now = most = 0
    found = -1
    for index, event in enumerate(trace.events):
        block = max(event, ~event)
        size = -(-trace.sizes[block] // ROUNDING) * ROUNDING
        now += size if event >= 0 else -size
        if now > most:
            most, found = now, index
    return found
