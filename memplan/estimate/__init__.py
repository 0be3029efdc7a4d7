"""Workload and target → estimate: simulate, replay through the allocator, add the rest, judge."""

from __future__ import annotations

from memplan.domain.architecture import Architecture, DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.estimate import DeviceMemory, Estimate, Gap, Verdict
from memplan.domain.target import ASSUMED_CAPABILITY, Target
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Task, Workload
from memplan.estimate.components import components
from memplan.estimate.gaps import gaps
from memplan.estimate.host import disk, host
from memplan.simulator.replay import Replay, replay

__all__ = ["estimate", "trace_of"]


def estimate(workload: Workload, target: Target | None = None) -> Estimate:
    """Where the bytes of a run go, when they peak, and whether they fit ``target``.

    Without a target there is no context and no verdict, and the GPU is taken to be of compute capability 8.0.

    Raises:
        FieldError: the workload asks for something that has no model at all.
    """
    trace = trace_of(workload, target.compute_capability if target else ASSUMED_CAPABILITY)
    device = _device(workload, target, trace, replay(trace))
    return Estimate(
        workload=workload,
        target=target,
        device=device,
        host=host(workload),
        disk=disk(workload),
        verdict=_verdict(device, target) if target else None,
        headroom=Bytes(target.limit - device.process) if target else Bytes(0),
    )


def trace_of(workload: Workload, capability: tuple[int, int]) -> Trace:
    """The allocations of a run on a GPU of this compute capability."""
    if isinstance(workload.model, DeclaredModel):
        return _declared(workload.model)
    return _simulated(workload, workload.model, capability)


def _simulated(workload: Workload, shape: Architecture, capability: tuple[int, int]) -> Trace:
    from memplan.families import build
    from memplan.simulator.generation import generate
    from memplan.simulator.kernels import choose
    from memplan.simulator.step import train

    kind = choose(shape, workload, capability)
    if workload.task is Task.GENERATE:
        return generate(workload, lambda tape: build(tape, shape, workload, kind), capability)
    return train(workload, lambda tape: build(tape, shape, workload, kind), capability)


def _declared(model: DeclaredModel) -> Trace:
    """Declared tensors are all there from the start."""
    trace = Trace()
    trace.enter(Phase.LOAD)
    for tensor, size in zip(model.tensors, model.sizes().values(), strict=True):
        if size:
            trace.allocate(size, (tensor.name, tensor.name, str(tensor.role), (size,), Dtype.UINT8))
    return trace


def _device(workload: Workload, target: Target | None, trace: Trace, replayed: Replay) -> DeviceMemory:
    peak = replayed.peak
    parts = components(workload, trace, replayed)
    context = _context(workload, target)
    unmodelled = (
        *gaps(workload, target, parts),
        *_context_gaps(workload, target),
        *_cache_gaps(peak.reserved - peak.allocated),
    )
    low = peak.reserved + context - sum(gap.low for gap in unmodelled)
    high = peak.reserved + context + sum(gap.high for gap in unmodelled)
    return DeviceMemory(
        peak_allocated=Bytes(peak.allocated),
        peak_reserved=Bytes(peak.reserved),
        context=context,
        process=Bytes(peak.reserved + context),
        low=Bytes(max(low, 0)),
        high=Bytes(high),
        peak_phase=max(
            replayed.phases, key=lambda phase: replayed.phases[phase].allocated, default=Phase.LOAD
        ),
        phases=tuple((phase, Bytes(found.allocated)) for phase, found in replayed.phases.items()),
        components=parts,
        gaps=unmodelled,
    )


def _context(workload: Workload, target: Target | None) -> Bytes:
    """The CUDA context; of a declared model it is not known whether there is one."""
    return target.context if target and isinstance(workload.model, Architecture) else Bytes(0)


def _context_gaps(workload: Workload, target: Target | None) -> tuple[Gap, ...]:
    if target is None:
        return ()
    if isinstance(workload.model, DeclaredModel):
        return (Gap(reason="the CUDA context is not among the declared tensors", high=target.context),)
    if target.context_basis == "assumed":
        return (
            Gap(reason=f"the CUDA context of {target.name} is assumed, not measured", low=target.context),
        )
    return ()


def _cache_gaps(cached: int) -> tuple[Gap, ...]:
    """Before PyTorch runs out it returns what it caches: a run may fit in less than it reserves."""
    return (
        (Gap(reason="cached memory is given back when it runs short", low=Bytes(cached)),) if cached else ()
    )


def _verdict(device: DeviceMemory, target: Target) -> Verdict:
    """A run fits when even the upper bound does, and does not when not even the lower one does."""
    if device.stays_within(target.limit):
        return Verdict.FITS
    return Verdict.DOES_NOT_FIT if device.low > target.limit else Verdict.UNDECIDED
