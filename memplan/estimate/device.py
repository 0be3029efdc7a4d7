"""GPU memory of one process: the replayed trace, the context, the bounds, and what happens at the limit."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import DeviceMemory, Gap
from memplan.domain.target import Target
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Workload
from memplan.estimate.capacity import allowed, out_of_memory, within
from memplan.estimate.components import components
from memplan.estimate.gaps import gaps
from memplan.estimate.growth import left_behind
from memplan.simulator.replay import Replay, replay


def device(
    workload: Workload, target: Target | None, trace: Trace, free: Replay | None = None
) -> DeviceMemory:
    """Peaks, components and bounds of a trace, on a target if there is one.

    ``free`` is the trace's replay without a limit, if somebody made it.
    A run that would reserve more than its target has is replayed within the limit: PyTorch then gives cached
    memory back, and the run goes on or dies.
    """
    free = free or replay(trace, options=workload.allocator)
    context = _context(workload, target)
    others = _gaps(workload, target, trace, free)
    if target is None:
        return _memory(workload, trace, free, context, others)
    above = sum(gap.high for gap in others if not gap.cached)
    share = allowed(workload, target)
    room = target.limit - context if share is None else min(target.limit - context, share)
    if free.peak.reserved + above + sum(gap.high for gap in others if gap.cached) <= room:
        return _memory(workload, trace, free, context, others)
    for budget in dict.fromkeys((room - above, room)):
        capped = free if free.peak.reserved <= budget else within(workload, target, trace, budget)
        if capped.failure is None:
            return _memory(workload, trace, capped, context, others, bounded=target.limit)
    assert capped.failure is not None
    return _memory(workload, trace, free, context, others, died=capped, target=target)


def _memory(
    workload: Workload,
    trace: Trace,
    replayed: Replay,
    context: Bytes,
    others: tuple[Gap, ...],
    *,
    bounded: int | None = None,
    died: Replay | None = None,
    target: Target | None = None,
) -> DeviceMemory:
    """``bounded`` is the limit the replay was kept to, ``died`` the replay that failed on ``target``."""
    peak = replayed.peak
    process = peak.reserved + context
    unmodelled = (*others, *_cache_gaps(replayed))
    low = process - sum(gap.low for gap in unmodelled)
    firm = process + sum(gap.high for gap in unmodelled if not gap.cached)
    high = firm + sum(gap.high for gap in unmodelled if gap.cached)
    failure = None
    if workload.simulated and died is not None and died.failure is not None and target is not None:
        certain = not any(gap.low or gap.unbounded for gap in others)
        failure = out_of_memory(workload, died.failure, target, certain=certain)
        if certain:
            low = max(low, min(process, failure.in_use + failure.tried))
    return DeviceMemory(
        peak_allocated=Bytes(peak.allocated),
        peak_reserved=Bytes(peak.reserved),
        context=context,
        process=Bytes(process),
        low=Bytes(max(low, 0)),
        high=Bytes(high if bounded is None else max(firm, min(high, bounded))),
        peak_phase=max(
            replayed.phases, key=lambda phase: replayed.phases[phase].allocated, default=Phase.LOAD
        ),
        phases=tuple((phase, Bytes(found.allocated)) for phase, found in replayed.phases.items()),
        components=components(workload, trace, replayed),
        gaps=unmodelled,
        returned=replayed.retries,
        failure=failure,
    )


def _context(workload: Workload, target: Target | None) -> Bytes:
    """The CUDA context; of tensors somebody declared it is not known whether there is one beside them."""
    there = workload.simulated and not workload.on_host
    return target.context if target and there else Bytes(0)


def _gaps(workload: Workload, target: Target | None, trace: Trace, free: Replay) -> tuple[Gap, ...]:
    """Everything that is not modelled, but for cached memory."""
    return (
        *gaps(workload, target, components(workload, trace, free)),
        *_context_gaps(workload, target),
        *_growth_gaps(workload, trace),
        *_compiled_gaps(workload, free),
    )


def _context_gaps(workload: Workload, target: Target | None) -> tuple[Gap, ...]:
    if target is None or workload.on_host:
        return ()
    if not workload.simulated:
        return (Gap(reason="the CUDA context is not among the declared tensors", high=target.context),)
    if target.context_basis == "assumed":
        return (
            Gap(reason=f"the CUDA context of {target.name} is assumed, not measured", low=target.context),
        )
    seen = target.calibration
    if seen is not None and seen.least < seen.most:
        reason = f"the CUDA context differed between {seen.runs} runs on this machine"
        return (Gap(reason=reason, low=Bytes(seen.most - seen.least)),)
    return ()


def _growth_gaps(workload: Workload, trace: Trace) -> tuple[Gap, ...]:
    left = left_behind(workload, trace) if isinstance(workload.model, Architecture) else 0
    reason = "a cache that grows may leave segments behind, which PyTorch gives back when memory runs short"
    return (Gap(reason=reason, high=Bytes(left), cached=True),) if left else ()


def _compiled_gaps(workload: Workload, free: Replay) -> tuple[Gap, ...]:
    """transformers' ``generate`` compiles the decode step of a static cache, and records it as a CUDA graph.

    A graph has memory of its own for what the step makes, the logits it returns included
    (``_valid_auto_compile_criteria`` in transformers src/transformers/generation/utils.py).
    """
    static = workload.generate.cache == "static" and workload.framework.code == "transformers"
    if not static or Phase.DECODE not in free.phases or not isinstance(workload.model, Architecture):
        return ()
    step = free.phases[Phase.DECODE].allocated - free.phases[Phase.LOAD].allocated
    reason = "with a static cache decoding is compiled, into a graph with memory of its own"
    return (Gap(reason=reason, high=Bytes(step)),)


def _cache_gaps(replayed: Replay) -> tuple[Gap, ...]:
    """Before PyTorch runs out it returns what it caches: a run may fit in less than it reserves."""
    cached = Bytes(replayed.peak.reserved - replayed.peak.allocated)
    if replayed.retries:
        times = "once" if replayed.retries == 1 else f"{replayed.retries} times"
        return (Gap(reason=f"fits only by giving cached memory back, {times} in three steps", low=cached),)
    return (Gap(reason="cached memory is given back when it runs short", low=cached),) if cached else ()
