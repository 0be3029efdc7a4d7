"""What a trace says of tensors that are saved or go to the host: adapters, optimizer states, activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.domain.architecture import Architecture
from memplan.domain.trace import Phase, Tag, Trace
from memplan.domain.workload import Workload
from memplan.simulator.offload import RETURNED

PER_MACHINE = 8
"""Processes on one machine at most: as many as it has GPUs, which is taken to be no more than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Adapter tensors by their tags, and optimizer states in bytes each.

    ``offloaded`` are the bytes of each activation that is in host memory when forward ends: those that the
    backward pass after it, the one with most of them, brings back.
    """

    adapters: tuple[Tag, ...]
    states: tuple[int, ...]
    offloaded: tuple[int, ...]


def kept(trace: Trace) -> Kept:
    """Read it off the blocks of a trace."""
    tags, sizes = trace.tags, trace.sizes
    backward = list(_backward(trace))
    return Kept(
        adapters=tuple([tag for tag in tags if tag[0] == "adapter"]),
        states=tuple([sizes[block] for block, tag in enumerate(tags) if tag[0] == "optimizer_state"]),
        offloaded=max(
            (tuple([sizes[block] for block in blocks if tags[block][2] == RETURNED]) for blocks in backward),
            key=sum,
            default=(),
        ),
    )


def trained(workload: Workload, found: Kept) -> list[tuple[int, ...]]:
    """The shape of every parameter that trains: the adapters if there are any, else the whole model."""
    if workload.adapter is not None:
        return [tag[3] for tag in found.adapters]
    shape = workload.model
    assert isinstance(shape, Architecture)
    return [group.shape for group in shape.groups for _ in range(group.copies)]


def _backward(trace: Trace) -> Iterator[list[int]]:
    """The blocks that each backward pass allocates."""
    bounds = [start for start, _ in trace.phases[1:]] + [len(trace.events)]
    for (start, phase), end in zip(trace.phases, bounds, strict=True):
        if phase is Phase.BACKWARD:
            yield [event for event in trace.events[start:end] if event >= 0]
