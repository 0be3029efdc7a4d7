"""Measured rows beside their estimates.

Errors are signed: an estimate above the measurement is positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, median

from benchmarks import truth_operators
from benchmarks.truth_cases import Case
from benchmarks.truth_facts import (
    AFTER_LOAD,
    ALLOCATED,
    BACKWARD,
    FORWARD,
    PROCESS,
    RESERVED,
    RESIDENT,
    STATES,
    STEP,
)
from memplan.domain.estimate import DeviceMemory, Verdict
from memplan.domain.trace import Phase, Trace
from memplan.estimate import estimate, trace_of
from memplan.simulator.allocator import Allocator

MIB = 2**20

PHASES: Mapping[str, tuple[Phase, ...]] = {
    FORWARD: (Phase.FORWARD, Phase.LOSS),
    BACKWARD: (Phase.BACKWARD,),
    STEP: (Phase.OPTIMIZER,),
}
"""Phases as the rows name them, and ours: their forward pass computes the loss as well."""

STAGES = (AFTER_LOAD, *PHASES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One metric of one row, in bytes."""

    metric: str
    measured: int
    estimated: int

    @property
    def error(self) -> float:
        """In percent of what was measured."""
        return 100 * (self.estimated / self.measured - 1)

    @property
    def excess(self) -> float:
        """In MiB."""
        return (self.estimated - self.measured) / MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A measured run and its estimate, metric by metric, or the verdict where only an outcome is known.

    ``bounds`` are the lowest and the highest that the process may take.
    """

    case: Case
    figures: tuple[Figure, ...] = ()
    bounds: tuple[int, int] | None = None
    verdict: Verdict | None = None

    def figure(self, metric: str) -> Figure | None:
        """One metric; None where the row does not have it."""
        return next((figure for figure in self.figures if figure.metric == metric), None)

    @property
    def decision(self) -> str | None:
        """``right``, ``wrong`` or ``undecided``, of a row whose outcome is known."""
        if self.case.outcome is None or self.verdict is None:
            return None
        if self.verdict is Verdict.UNDECIDED:
            return "undecided"
        return "right" if (self.verdict is Verdict.FITS) == (self.case.outcome == "ran") else "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Absolute errors in percent: how many, and their median, mean and worst."""

    rows: int
    median: float
    mean: float
    worst: float

    @classmethod
    def of(cls, errors: Iterable[float]) -> Spread:
        """The spread of errors, at least one."""
        found = [abs(error) for error in errors]
        return cls(rows=len(found), median=median(found), mean=fmean(found), worst=max(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every row: compared, or left out with a reason."""

    compared: tuple[Comparison, ...]
    left_out: Mapping[str, str]

    @property
    def decided(self) -> tuple[Comparison, ...]:
        """The rows whose outcome was published."""
        return tuple(found for found in self.compared if found.decision)

    def errors(self, metric: str, chosen: Callable[[Case], bool] = lambda _: True) -> dict[str, float]:
        """Signed errors of a metric in percent, by row, over the rows that have it."""
        return {
            found.case.id: figure.error
            for found in self.compared
            if chosen(found.case) and (figure := found.figure(metric))
        }

    def spread(self, metric: str, chosen: Callable[[Case], bool] = lambda _: True) -> Spread | None:
        """How far off a metric is over the rows that have it; None where none has."""
        found = self.errors(metric, chosen)
        return Spread.of(found.values()) if found else None

    def metrics(self) -> tuple[str, ...]:
        """Every metric that some row has."""
        return tuple(dict.fromkeys(figure.metric for found in self.compared for figure in found.figures))

    def suites(self) -> tuple[str, ...]:
        """Every suite, in the order of the rows."""
        return tuple(dict.fromkeys(found.case.suite for found in self.compared))


def report(cases: Iterable[Case], left_out: Mapping[str, str]) -> Report:
    """Compare every row."""
    return Report(compared=tuple(map(compare, cases)), left_out=left_out)


def compare(case: Case) -> Comparison:
    """Estimate what a row measured."""
    if case.operator is not None:
        return Comparison(case=case, figures=_figures(case, truth_operators.estimated(case.operator).items()))
    found = estimate(case.workload, case.target)
    figures = _figures(case, _estimated(case, found.device))
    return Comparison(
        case=case,
        figures=figures,
        bounds=(found.device.low, found.device.high),
        verdict=found.verdict if case.outcome else None,
    )


def _figures(case: Case, estimates: Iterable[tuple[str, int]]) -> tuple[Figure, ...]:
    return tuple(
        Figure(metric=metric, measured=measured, estimated=estimated)
        for metric, estimated in estimates
        if (measured := case.measured.get(metric)) is not None
    )


def _estimated(case: Case, device: DeviceMemory) -> Iterator[tuple[str, int]]:
    """Every metric of an estimate, as measurements call them."""
    yield ALLOCATED, device.peak_allocated
    yield RESERVED, device.peak_reserved
    yield PROCESS, device.peak_reserved + (case.context or device.context)
    phases = dict(device.phases)
    for metric, names in PHASES.items():
        if all(name in phases for name in names):
            yield metric, max(phases[name] for name in names)
    if {AFTER_LOAD, RESIDENT, STATES} & case.measured.keys():
        trace = trace_of(case.workload, case.target.compute_capability)
        loaded = trace.cycles[0] if trace.cycles else trace.phases[1][0]
        before, after = held(trace, loaded, len(trace.events))
        yield from ((AFTER_LOAD, before), (RESIDENT, after), (STATES, after - before))


def held(trace: Trace, *ends: int) -> list[int]:
    """Bytes in use after so many events, as the allocator counts them; ``ends`` ascend."""
    allocator = Allocator()
    addresses: dict[int, int] = {}
    found, start = [], 0
    for end in ends:
        for event in trace.events[start:end]:
            if event < 0:
                allocator.release(addresses.pop(~event))
            else:
                addresses[event] = allocator.allocate(trace.sizes[event])
        found.append(allocator.allocated)
        start = end
    return found
