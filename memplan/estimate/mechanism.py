"""Estimates of mechanisms: their programs run on a simulated process, on a GPU or in host memory."""

from __future__ import annotations

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError
from memplan.domain.estimate import Component, HostMemory
from memplan.domain.overhead import Overhead
from memplan.domain.setting import Settings
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Workload
from memplan.estimate.components import components
from memplan.estimate.host.libraries import libraries
from memplan.simulator.kernels import HOST
from memplan.simulator.replay import replay
from memplan.simulator.tensor import Tape


def trace_of(model: DeclaredModel, capability: tuple[int, int]) -> Trace:
    """The declared tensors, all there from the start, and what the mechanism does beside them.

    Raises:
        FieldError: two settings contradict each other.
    """
    if model.mechanism is None:
        trace = Trace()
        trace.enter(Phase.LOAD)
        _declared(model, trace)
        return trace
    from memplan import programs

    program = programs.find(model.mechanism)
    settings = settings_of(model)
    problem = program.problem(settings)
    if problem is not None:
        raise FieldError(": ".join(problem))
    tape = Tape(HOST if model.on_host else capability)
    tape.trace.enter(Phase.LOAD)
    _declared(model, tape.trace)
    # What the program returns lives until the trace was copied, so that the end of the run frees nothing.
    alive = program.run(settings, tape)
    trace = tape.trace.closed()
    del alive
    return trace


def settings_of(model: DeclaredModel) -> Settings:
    """The settings of a model's mechanism."""
    return dict(model.values)


def disk(model: DeclaredModel) -> tuple[Component, ...]:
    """The files a mechanism keeps."""
    if model.mechanism is None:
        return ()
    from memplan import programs

    return programs.find(model.mechanism).disk(settings_of(model))


def host(workload: Workload, model: DeclaredModel, trace: Trace, seen: Overhead | None = None) -> HostMemory:
    """Host memory of a mechanism that runs there: nothing is rounded, and the libraries come on top.

    ``seen`` is what these took, where that was measured.
    """
    from memplan import programs

    assert model.mechanism is not None
    found = replay(trace, exact=True)
    base = next(iter(libraries(seen)))
    peak = found.peak.allocated
    beyond = 0 if seen is None else seen.beyond(peak)
    highest = max(found.phases, key=lambda phase: found.phases[phase].allocated, default=Phase.LOAD)
    return HostMemory(
        peak=Bytes(base.bytes + peak),
        components=(base.component(), *components(workload, trace, found)),
        phases=tuple((str(phase), Bytes(base.bytes + at.allocated)) for phase, at in found.phases.items()),
        peak_phase=str(highest),
        mapped=Bytes(programs.find(model.mechanism).mapped(settings_of(model))),
        low=Bytes(max(0, base.low + peak + min(beyond, 0))),
        high=Bytes(base.high + peak + max(beyond, 0)),
    )


def _declared(model: DeclaredModel, trace: Trace) -> None:
    for tensor, size in zip(model.tensors, model.sizes().values(), strict=True):
        if size:
            trace.allocate(size, (tensor.name, tensor.name, str(tensor.role), (size,), Dtype.UINT8))
