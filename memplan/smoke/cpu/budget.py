"""A budget of allocated bytes, held against what a run asked for, allocation by allocation.

The C library knows no such limit: PyTorch's requests are counted, and where one goes beyond the budget the
run is over. What it did afterwards is not looked at.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

from memplan.domain.bytes import Bytes
from memplan.domain.measurement import Comparison
from memplan.domain.shortage import Shortage
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Workload
from memplan.simulator.replay import replay
from memplan.smoke.cpu.prediction import measurement, shares


def within(found: Comparison, workload: Workload, seen: Trace, expected: Trace, limit: int) -> Comparison:
    """The same within a budget: a run that goes beyond it ends there; nothing is said of resident sets."""
    died = shortage(workload, limit, seen, expected)
    if died is None:
        return found
    return replace(
        found,
        predicted=measurement(workload, survived(expected, limit)),
        measured=measurement(workload, survived(seen, limit)),
        shortage=died,
        foreseen=foreseen(limit, expected),
    )


def shortage(workload: Workload, budget: int, seen: Trace, predicted: Trace) -> Shortage | None:
    """The first allocation beyond the budget, if there is one, and what the prediction says to it."""
    used, fatal = _beyond(seen, budget)
    if fatal is None:
        return None
    block = seen.events[fatal]
    _, end = _beyond(predicted, budget)
    expected = replay(predicted, exact=True).peak.event if end is None else end - 1
    return Shortage(
        budget=Bytes(budget),
        tried=Bytes(seen.sizes[block]),
        allocated=Bytes(used),
        phase=phase_of(seen, fatal),
        tensor=_named(seen, block),
        alive=shares(workload, seen, fatal - 1),
        predicted=shares(workload, predicted, expected),
    )


def survived(seen: Trace, budget: int) -> Trace:
    """The run up to the allocation it died of."""
    _, fatal = _beyond(seen, budget)
    if fatal is None:
        return seen
    kept = seen.closed()
    kept.events = kept.events[:fatal]
    kept.phases = [(start, phase) for start, phase in kept.phases if start <= fatal]
    return kept


def foreseen(budget: int, predicted: Trace) -> bool:
    """Whether the prediction runs out of memory too."""
    return _beyond(predicted, budget)[1] is not None


def _beyond(trace: Trace, budget: int) -> tuple[int, int | None]:
    """Bytes in use before the first allocation beyond a budget, and its event."""
    sizes = [trace.sizes[event] if event >= 0 else -trace.sizes[~event] for event in trace.events]
    for index, used in enumerate(accumulate(sizes)):
        if used > budget:
            return used - sizes[index], index
    return 0, None


def phase_of(trace: Trace, event: int) -> Phase:
    """The phase an event belongs to."""
    return next(phase for start, phase in reversed(trace.phases) if start <= event)


def _named(trace: Trace, block: int) -> str:
    component, scope, op, *_ = trace.tags[block]
    place = scope or component
    return f"{op} in {place}" if op else place
