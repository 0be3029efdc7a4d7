"""A run at the end of a GPU's memory: what PyTorch gives back to go on, or what it dies of."""

from __future__ import annotations

from memplan.domain.bytes import Bytes
from memplan.domain.out_of_memory import OutOfMemory
from memplan.domain.target import Target
from memplan.domain.trace import Tag, Trace
from memplan.domain.workload import Workload
from memplan.simulator.replay import Failure, Replay, replay


def within(workload: Workload, target: Target, trace: Trace, budget: int) -> Replay:
    """The trace with ``budget`` bytes for PyTorch: cached memory is returned when it runs short."""
    share = allowed(workload, target)
    return replay(trace, options=workload.allocator, budget=max(budget, 0), allowed=share)


def allowed(workload: Workload, target: Target) -> int | None:
    """What ``set_per_process_memory_fraction`` lets PyTorch reserve, if it was called."""
    fraction = workload.allocator.memory_fraction
    return None if fraction is None else int(fraction * target.usable)


def first_failure(workload: Workload, target: Target, trace: Trace) -> OutOfMemory | None:
    """The first allocation that fails on a target even after all cached memory was given back."""
    failure = within(workload, target, trace, target.limit - target.context).failure
    return None if failure is None else out_of_memory(workload, failure, target)


def out_of_memory(
    workload: Workload, failure: Failure, target: Target, *, certain: bool = False
) -> OutOfMemory:
    """A failed allocation with the figures PyTorch would print on the target."""
    share = allowed(workload, target)
    in_use = target.context + failure.reserved
    return OutOfMemory(
        tried=Bytes(failure.asked),
        capacity=target.usable,
        free=Bytes(target.limit - in_use),
        in_use=Bytes(in_use),
        allocated=Bytes(failure.allocated),
        cached=Bytes(failure.reserved - failure.allocated),
        phase=failure.phase,
        tensor=label(failure.tag),
        allowed=None if share is None else Bytes(share),
        certain=certain,
    )


def label(tag: Tag) -> str:
    """A tensor for people: ``lm_head linear (1, 2048, 128256) bf16``."""
    _, scope, op, shape, dtype = tag
    return f"{scope} {op} ({', '.join(str(side) for side in shape)}) {dtype}".lstrip()
