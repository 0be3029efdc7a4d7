"""What a CPU allocates differently from a GPU in models with experts, beside the rules of ``artefacts``."""

from __future__ import annotations

from memplan.domain.trace import Trace
from memplan.domain.workload import Workload
from memplan.simulator.parameter_adapters import KERNEL_COPY
from memplan.smoke.cpu import rules
from tests.oracle.artefacts import SMALLEST, left_out


def of_simulation(trace: Trace, workload: Workload) -> list[int]:
    """Events of the last simulated step as a CPU would make them, at least 1 KiB each."""
    skipped = left_out(trace) | set(trace.once)
    events: list[int] = []
    for event in trace.events[trace.cycles[-1] :]:
        block = max(event, ~event)
        if block in skipped:
            continue
        size = trace.sizes[block]
        if trace.tags[block][2] == KERNEL_COPY:
            events += _one_by_one(trace, block) if event >= 0 else []
            continue
        temporary = rules.temporary(trace, block, workload) if event >= 0 else 0
        around = [size if event >= 0 else -size, temporary, -temporary]
        events += [found for found in around if abs(found) >= SMALLEST]
    return events


def _one_by_one(trace: Trace, block: int) -> list[int]:
    count, size = rules.one_by_one(trace, block)
    return [size, -size] * count if size >= SMALLEST else []
