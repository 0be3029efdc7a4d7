"""A simulated run step by step: its last step written out again, as often as it is run."""

from __future__ import annotations

from memplan.domain.trace import Trace


def unrolled(trace: Trace, steps: int) -> Trace:
    """The trace with ``steps`` cycles, each in full; a trace without cycles as it is.

    What a cycle leaves behind plays the part of what it found and freed, as in ``memplan.simulator.replay``.
    """
    made = trace.closed()
    made.cycles, made.once = [], set()
    if not trace.cycles:
        return made
    start = trace.cycles[-1]
    phases = {index: phase for index, phase in trace.phases if index >= start}
    names = list(range(len(trace.sizes)))
    found, left = _ends(trace, start)
    for _ in range(steps - len(trace.cycles)):
        for old, new in zip(found, left, strict=True):
            names[old] = names[new]
        for index in range(start, len(trace.events)):
            if index in phases:
                made.enter(phases[index])
            event = trace.events[index]
            block = max(event, ~event)
            if event < 0:
                made.free(names[block])
            elif block not in trace.once:
                made.layer = trace.layers[block]
                names[block] = made.allocate(trace.sizes[block], trace.tags[block])
    return made


def _ends(trace: Trace, start: int) -> tuple[list[int], list[int]]:
    """Blocks that a cycle finds and frees, and those it leaves behind in their stead."""
    made: set[int] = set()
    found: list[int] = []
    for event in trace.events[start:]:
        if event >= 0:
            made.add(event)
        elif ~event in made:
            made.discard(~event)
        else:
            found.append(~event)
    return sorted(found), sorted(made - trace.once)
