"""What a step does to memory: allocations and frees in order, with what each is and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from memplan.domain.dtype import Dtype

Tag = tuple[str, str, str, tuple[int, ...], Dtype]
"""What a block is: component, module it was made in, op that made it, shape, element type."""


OUTSIDE = -1
"""The layer of what belongs to none."""


class Phase(StrEnum):
    """The part of a run in which an event happens."""

    LOAD = "load"
    FORWARD = "forward"
    LOSS = "loss"
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(slots=True)
class Trace:
    """Allocations and frees, in order.

    ``events`` holds one integer per event: block ``b`` is allocated by ``b`` and freed by ``~b``.
    ``sizes[b]`` is its size in bytes as requested, ``tags[b]`` says what it is. ``phases`` gives the first
    event index of each phase, in order; a phase may occur several times (forward, backward, forward, …
    with accumulation). ``cycles`` gives the first event index of each optimizer step: the last one repeats
    for as long as the run lasts, without the allocations of the blocks in ``once`` (optimizer states and
    workspaces, made the first time they are needed). ``layers[b]`` is the layer a block belongs to, or
    ``OUTSIDE``; ``layer`` is that of the next allocations. ``streams`` says on which CUDA stream a block is
    allocated, if not on the one that computes (0). ``mixed`` holds, for results of two element types, the
    bytes of the narrower operand in the wider type: a CPU makes that copy first.
    Parallel lists rather than objects: a step of an 8B model has some ten thousand events.
    """

    events: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    phases: list[tuple[int, Phase]] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    once: set[int] = field(default_factory=set)
    streams: dict[int, int] = field(default_factory=dict)
    mixed: dict[int, int] = field(default_factory=dict)
    layer: int = OUTSIDE

    def allocate(self, size: int, tag: Tag) -> int:
        """Record an allocation of ``size`` bytes; returns the block's number."""
        block = len(self.sizes)
        self.sizes.append(size)
        self.tags.append(tag)
        self.layers.append(self.layer)
        self.events.append(block)
        return block

    def free(self, block: int) -> None:
        """Record that a block's memory is returned."""
        self.events.append(~block)

    def enter(self, phase: Phase) -> None:
        """All events from here on belong to ``phase``."""
        self.phases.append((len(self.events), phase))

    def closed(self) -> Trace:
        """A copy that the teardown of the simulated process no longer writes to."""
        return Trace(
            list(self.events),
            list(self.sizes),
            list(self.tags),
            list(self.layers),
            list(self.phases),
            list(self.cycles),
            set(self.once),
            dict(self.streams),
            dict(self.mixed),
        )
