"""Workload and target → estimate: simulate, replay through the allocator, add the rest, judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import DeviceMemory, Estimate, HostMemory, Verdict
from memplan.domain.target import ASSUMED_CAPABILITY, Target
from memplan.domain.trace import Trace
from memplan.domain.workload import Workload
from memplan.estimate import mechanism
from memplan.estimate.capacity import first_failure, within
from memplan.estimate.device import device
from memplan.estimate.disk import disk
from memplan.estimate.host import host
from memplan.estimate.kept import kept
from memplan.estimate.simulation import simulate
from memplan.simulator.replay import Replay, replay

__all__ = ["dies", "estimate", "estimates", "first_failure", "sharing", "trace_of"]


def estimate(workload: Workload, target: Target | None = None) -> Estimate:
    """Where the bytes of a run go, when they peak, and whether they fit ``target``.

    Without a target there is no context and no verdict, and the GPU is taken to be of compute capability 8.0.

    Raises:
        FieldError: the workload asks for something that has no model at all.
    """
    return _estimate(workload, target, trace_of(workload, _capability(target)))


def estimates(workload: Workload, targets: Sequence[Target | None]) -> tuple[Estimate, ...]:
    """Like ``estimate`` for each of several targets: GPUs of one compute capability share a simulation.

    Raises:
        FieldError: the workload asks for something that has no model at all.
    """
    traces: dict[tuple[int, int], tuple[Trace, Replay]] = {}
    found = []
    for target in targets:
        capability = _capability(target)
        if capability not in traces:
            trace = trace_of(workload, capability)
            traces[capability] = trace, replay(trace, options=workload.allocator)
        found.append(_estimate(workload, target, *traces[capability]))
    return tuple(found)


def sharing(most: int = 16) -> Callable[[Workload, Target | None], Estimate]:
    """``estimate`` for many targets: it simulates a workload once for all GPUs of a compute capability.

    The last ``most`` simulations are kept, some megabytes each.
    """

    @lru_cache(maxsize=most)
    def simulated(workload: Workload, capability: tuple[int, int]) -> tuple[Trace, Replay]:
        trace = trace_of(workload, capability)
        return trace, replay(trace, options=workload.allocator)

    def count(workload: Workload, target: Target | None) -> Estimate:
        return _estimate(workload, target, *simulated(workload, _capability(target)))

    return count


def _capability(target: Target | None) -> tuple[int, int]:
    return target.compute_capability if target else ASSUMED_CAPABILITY


def _estimate(
    workload: Workload, target: Target | None, trace: Trace, free: Replay | None = None
) -> Estimate:
    """What a trace says; ``free`` is its replay without a limit, if somebody made it."""
    model, seen = workload.model, target.overhead_of(workload) if target else None
    if isinstance(model, DeclaredModel) and model.on_host:
        memory, around = device(workload, target, Trace()), mechanism.host(workload, model, trace, seen)
    else:
        memory, around = device(workload, target, trace, free), host(workload, kept(trace), seen)
    stored = disk(workload, kept(trace))
    return Estimate(
        workload=workload,
        target=target,
        device=memory,
        host=around,
        disk=Bytes(sum(part.bytes for part in stored)),
        disk_parts=stored,
        verdict=_verdict(memory, around, target) if target else None,
        headroom=Bytes(target.limit - (around.peak if target.host_only else memory.process))
        if target
        else Bytes(0),
    )


def dies(workload: Workload, target: Target) -> bool:
    """Whether a run is out of memory on a target even if everything that is not modelled takes nothing.

    Raises:
        FieldError: the workload asks for something that has no model at all.
    """
    trace = trace_of(workload, target.compute_capability)
    return within(workload, target, trace, target.limit - target.context).failure is not None


def trace_of(workload: Workload, capability: tuple[int, int]) -> Trace:
    """The allocations of a run on a GPU of this compute capability.

    Raises:
        FieldError: the model has no such task.
    """
    if isinstance(workload.model, DeclaredModel):
        return mechanism.trace_of(workload.model, capability)
    return simulate(workload, workload.model, capability)


def _verdict(memory: DeviceMemory, around: HostMemory, target: Target) -> Verdict:
    """It fits when it fits both the GPU and the host's RAM, as far as that is known."""
    both = {_on_gpu(memory, target)}
    if target.ram is not None:
        both.add(around.verdict(target.ram))
    worst = (Verdict.DOES_NOT_FIT, Verdict.UNDECIDED)
    return next((verdict for verdict in worst if verdict in both), Verdict.FITS)


def _on_gpu(memory: DeviceMemory, target: Target) -> Verdict:
    """It fits when even the upper bound does, and does not when the lower one does not or it surely dies."""
    if memory.stays_within(target.limit):
        return Verdict.FITS
    certain = memory.failure is not None and memory.failure.certain
    return Verdict.DOES_NOT_FIT if certain or memory.low > target.limit else Verdict.UNDECIDED
