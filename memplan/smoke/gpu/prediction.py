"""What a run on a GPU is expected to do, within what it is allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from memplan.domain.bytes import Bytes
from memplan.domain.measurement import Measurement
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Workload
from memplan.estimate import trace_of
from memplan.estimate.capacity import label
from memplan.estimate.components import components
from memplan.simulator import rounding
from memplan.simulator.replay import Replay, alive, replay
from memplan.smoke.gpu.emulation import Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A simulated run within ``room`` bytes for PyTorch, and without a limit if it dies within them.

    ``died`` is the replay that ran out of memory, None where the run fits.
    """

    workload: Workload
    trace: Trace
    room: Bytes
    replayed: Replay
    died: Replay | None = None

    @property
    def measurement(self) -> Measurement:
        """Peaks and components, as a measurement has them."""
        peak = self.replayed.peak
        parts = components(self.workload, self.trace, self.replayed)
        return Measurement(
            peak_allocated=Bytes(peak.allocated),
            peak_reserved=Bytes(peak.reserved),
            phases=tuple((phase, Bytes(found.allocated)) for phase, found in self.replayed.phases.items()),
            components=_told((part.name, part.bytes) for part in parts),
        )

    @property
    def doomed(self) -> tuple[Phase, str] | None:
        """When the prediction runs out of memory, and of which tensor; None if it does not."""
        if self.died is None or self.died.failure is None:
            return None
        return self.died.failure.phase, label(self.died.failure.tag)

    def alive(self, phase: Phase, *, first: bool) -> tuple[tuple[str, Bytes], ...]:
        """What lives when most does in a phase, by component: up to where the run dies, if it dies there.

        In the ``first`` step, what is made once for good is there only from then on.
        """
        told = self.died if self.doomed is not None and self.doomed[0] is phase else self.replayed
        assert told is not None
        event = told.phases[phase].event if phase in told.phases else -1
        made = set(self.trace.events[: event + 1]) | (set() if first else self.trace.once)
        blocks = made.intersection(alive(self.trace, event))
        found = _told((self.trace.tags[block][0], self.trace.sizes[block]) for block in blocks)
        return tuple(sorted(found, key=lambda item: -item[1]))

    def like(self, phase: Phase, size: int, scope: str | None) -> str | None:
        """The tensor of that size that is predicted in a phase and a module (None: in any), if there is one.

        Of several, one that most others are like.
        """
        found: Counter[str] = Counter()
        now, bounds = Phase.LOAD, iter([*self.trace.phases, (len(self.trace.events), Phase.LOAD)])
        start, coming = next(bounds)
        for index, event in enumerate(self.trace.events):
            while index >= start:
                now = coming
                start, coming = next(bounds)
            if event >= 0 and now is phase and rounding.block(self.trace.sizes[event]) == size:
                tag = self.trace.tags[event]
                if scope is None or tag[1] == scope:
                    found[label(tag)] += 1
        return max(found, key=lambda name: found[name]) if found else None


def _told(parts: Iterable[tuple[str, int]]) -> tuple[tuple[str, Bytes], ...]:
    """Bytes by component, of those that have any."""
    found: dict[str, int] = {}
    for name, size in parts:
        found[name] = found.get(name, 0) + size
    return tuple((name, Bytes(size)) for name, size in found.items() if size)


def predict(card: Card, steps: int) -> Prediction:
    """Simulate ``steps`` steps of a workload on a card.

    Raises:
        FieldError: the model has no such task.
    """
    workload, options = card.predicted, card.predicted.allocator
    trace = trace_of(workload, card.capability)
    room = card.room
    capped = replay(trace, steps, options=options, budget=room, allowed=card.allowed)
    if capped.failure is None:
        return Prediction(workload=workload, trace=trace, room=room, replayed=capped)
    free = replay(trace, steps, options=options)
    return Prediction(workload=workload, trace=trace, room=room, replayed=free, died=capped)
