"""What a step on the CPU allocates differently from one on a GPU: the rules that match the two sequences.

Whatever no rule here names has to be equal, event by event and in order.
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.architecture import Architecture
from memplan.domain.trace import Trace
from memplan.domain.workload import Workload
from memplan.smoke.cpu import rules

SMALLEST = 1024
"""Smaller tensors are left out: position ids, packing checks, counters, scalars."""

RNG_STATE = 5056
"""Bytes of the CPU generator's state, which checkpointing keeps (for a GPU too, but in host memory)."""


BOOKKEEPING = 16 * 1024
"""Bytes by which a real peak may exceed the simulated one: what the rules leave out and is alive then."""

NORMS = 8 * 1024
"""Bytes of a block's vectors that DoRA keeps."""


def of_simulation(trace: Trace, workload: Workload) -> list[int]:
    """Events of the last simulated step as a CPU would make them, at least 1 KiB each."""
    skipped = left_out(trace) | set(trace.once)
    events: list[int] = []
    for event in trace.events[trace.cycles[-1] :]:
        block = max(event, ~event)
        size = trace.sizes[block]
        if block in skipped or size < SMALLEST:
            continue
        events.append(size if event >= 0 else -size)
        # Only this: dropout of these runs is the one of a GPU.
        passing = trace.mixed.get(block, 0) if event >= 0 else 0
        if passing >= SMALLEST:
            events += [passing, -passing]
    return events


def of_profiler(events: list[int], workload: Workload) -> list[int]:
    """Profiled events without those that only a CPU makes, at least 1 KiB each."""
    # One boolean per pair of positions: transformers builds masks by combining several, the simulator makes
    # the one that is kept. Nothing else in the cases has this size.
    pairs = workload.sequence.length**2
    dropped = {pairs, -pairs, RNG_STATE, -RNG_STATE}
    return [size for size in events if abs(size) >= SMALLEST and size not in dropped]


def allowance(workload: Workload) -> int:
    """By how many bytes the real peak may exceed the simulated one.

    Every checkpointed region keeps a generator state; one more is kept while it is run again. DoRA keeps the
    norms and scales of each layer's outputs, which are too small here to be compared.
    """
    shape = workload.model
    assert isinstance(shape, Architecture)
    regions = shape.num_hidden_layers + 1 if workload.checkpointing.every else 0
    dora = shape.num_hidden_layers * NORMS if workload.adapter and workload.adapter.dora else 0
    return BOOKKEEPING + regions * RNG_STATE + dora


def left_out(trace: Trace) -> set[int]:
    """Blocks that exist on a GPU only, and boolean masks (see ``of_profiler``)."""
    masks = {block for block, tag in enumerate(trace.tags) if tag[2] == "causal_mask"}
    return rules.left_out(trace) | masks


def running(events: list[int]) -> Iterator[int]:
    """Bytes in use after each event, above those at the start."""
    used = 0
    for size in events:
        used += size
        yield used
