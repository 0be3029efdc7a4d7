"""What a run takes on a CPU: the simulated GPU run under a CPU's rules, step by step."""

from __future__ import annotations

from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.measurement import Measurement
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Task, Workload
from memplan.estimate.components import components
from memplan.estimate.simulation import simulated
from memplan.simulator.kernels import HOST
from memplan.simulator.replay import Peak, Replay, replay
from memplan.smoke.cpu.rules import on_cpu
from memplan.smoke.cpu.unrolled import unrolled
from memplan.smoke.training import STEPS

Shares = tuple[tuple[str, Bytes], ...]


def predicted(workload: Workload) -> Trace:
    """The allocations of loading and of two steps, or of loading and a call of ``generate``.

    Raises:
        FieldError: the workload asks for something that is not simulated.
    """
    assert isinstance(workload.model, Architecture)
    trace = on_cpu(simulated(workload, workload.model, HOST), workload)
    return trace if workload.task is Task.GENERATE else unrolled(trace, STEPS)


def measurement(workload: Workload, trace: Trace, baseline: int | None = None) -> Measurement:
    """Peaks of a trace that stands in full; with a ``baseline``, resident sets on top of it too."""
    found = replay(trace, exact=True)
    plain = Measurement(
        peak_allocated=Bytes(found.peak.allocated),
        peak_reserved=None,
        phases=tuple((phase, Bytes(peak.allocated)) for phase, peak in found.phases.items()),
        components=shares(workload, trace, found.peak.event),
    )
    return plain if baseline is None else on_top(plain, baseline)


def on_top(found: Measurement, baseline: int) -> Measurement:
    """With resident sets as they are when so much was resident before."""
    return with_resident(found, {phase: baseline + size for phase, size in found.phases})


def with_resident(found: Measurement, phases: dict[Phase, int]) -> Measurement:
    """A measurement with resident sets that were seen beside it."""
    resident = tuple((phase, Bytes(size)) for phase, size in phases.items())
    return replace(found, resident=resident, rss=max(size for _, size in resident))


def shares(workload: Workload, trace: Trace, event: int) -> Shares:
    """What is alive after an event, by component."""
    allocated = sum(
        trace.sizes[event] if event >= 0 else -trace.sizes[~event] for event in _until(trace, event)
    )
    at = Replay({}, Peak(allocated, event))
    return tuple((part.name, part.bytes) for part in components(workload, trace, at))


def _until(trace: Trace, event: int) -> list[int]:
    return trace.events[: event + 1]
