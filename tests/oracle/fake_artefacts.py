"""How a trace of the real classes may differ from the simulated one: everything else has to be equal.

- Tensors below 1 KiB, booleans (masks are combined from several) and int64 (positions, checks for packed
  sequences, sorted ids) come and go unmatched: a run keeps at most ``ALLOWANCE`` of them.
- What is freed in one go is freed in any order.
"""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Workload
from memplan.estimate.components import ROUNDING, components
from memplan.simulator.replay import replay

SMALLEST = 1024
ALLOWANCE = 6144
"""Bytes of bookkeeping, in blocks of 512: position ids, a padding mask, indices of single numbers."""

WITHIN_A_STEP = ("activations", "temporaries")
"""Of two equally high points, the earlier one is reported: these two swap shares between them."""


def events(trace: Trace) -> list[int]:
    """Allocations (positive) and frees (negative, in order of size) of the last step, in bytes."""
    ignored = _ignored(trace)
    found: list[int] = []
    freed: list[int] = []
    for event in trace.events[trace.cycles[-1] :]:
        block = max(event, ~event)
        if block in ignored or trace.sizes[block] < SMALLEST:
            continue
        if event < 0:
            freed.append(-trace.sizes[block])
            continue
        found += sorted(freed)
        freed.clear()
        found.append(trace.sizes[block])
    return found + sorted(freed)


def _ignored(trace: Trace) -> set[int]:
    """Bookkeeping, and what the first step makes for good."""
    found = set(trace.once)
    for block, (component, _, op, _, dtype) in enumerate(trace.tags):
        mask = dtype is Dtype.BOOL and "dropout" not in op
        if component == "workspace" or mask or dtype is Dtype.INT64:
            found.add(block)
    return found


def peaks(trace: Trace) -> dict[Phase, int]:
    """The allocated peak of every phase."""
    return {phase: peak.allocated for phase, peak in replay(trace).phases.items()}


def shares(workload: Workload, trace: Trace) -> dict[str, int]:
    """Components at the peak, without what rounding adds; shares within a step as one."""
    assert isinstance(workload.model, Architecture)
    found = {part.name: int(part.bytes) for part in components(workload, trace, replay(trace))}
    found.pop(ROUNDING, None)
    within = sum(found.pop(name, 0) for name in WITHIN_A_STEP)
    return found | {"within a step": within}
