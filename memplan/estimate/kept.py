"""What a trace says of tensors that are saved or moved to the host: adapters, trained parameters, states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.domain.trace import Phase, Tag, Trace
from memplan.simulator.offload import RETURNED


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Adapter tensors by their tags, optimizer states in bytes each, and the shapes of what trains.

    ``offloaded`` are the bytes of each activation that is in host memory when forward ends: those that the
    backward pass after it, the one with most of them, brings back.
    """

    adapters: tuple[Tag, ...]
    states: tuple[int, ...]
    trained: tuple[tuple[int, ...], ...]
    offloaded: tuple[int, ...]


def kept(trace: Trace) -> Kept:
    """Read it off the blocks of a trace."""
    tags, sizes = trace.tags, trace.sizes
    backward = list(_backward(trace))
    return Kept(
        adapters=tuple([tag for tag in tags if tag[0] == "adapter"]),
        states=tuple([sizes[block] for block, tag in enumerate(tags) if tag[0] == "optimizer_state"]),
        trained=tuple([tag[3] for tag in _gradients(trace)]),
        offloaded=max(
            (tuple([sizes[block] for block in blocks if tags[block][2] == RETURNED]) for blocks in backward),
            key=sum,
            default=(),
        ),
    )


def _gradients(trace: Trace) -> Iterator[Tag]:
    """One tag for each gradient that the first step makes: those of later ones are the same, or stay."""
    end = trace.cycles[1] if len(trace.cycles) > 1 else len(trace.events)
    for event in trace.events[trace.cycles[0] if trace.cycles else end : end]:
        if event >= 0 and trace.tags[event][0] == "gradients":
            yield trace.tags[event]


def _backward(trace: Trace) -> Iterator[list[int]]:
    """The blocks that each backward pass allocates."""
    bounds = [start for start, _ in trace.phases[1:]] + [len(trace.events)]
    for (start, phase), end in zip(trace.phases, bounds, strict=True):
        if phase is Phase.BACKWARD:
            yield [event for event in trace.events[start:end] if event >= 0]
