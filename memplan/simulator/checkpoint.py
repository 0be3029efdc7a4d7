"""Activation checkpointing as ``torch.utils.checkpoint`` does it with ``use_reentrant=False``.

The region's graph is built in forward, but what its nodes would save is dropped. When backward asks
for the first of these tensors, the region runs again and keeps what its nodes save, stopping as soon
as the last one is there; each tensor is given up as its node takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memplan.simulator.tensor import Tape, Tensor

Saved = tuple["Tensor | None", ...]


class _StopRecomputationError(Exception):
    """Everything the region's nodes save has been recomputed."""


class Region:
    """A function run under checkpointing: its arguments, and how many tensors its nodes saved."""

    __slots__ = ("arguments", "autocast", "function", "recomputed", "recomputing", "saves")

    def __init__(self, tape: Tape, function: Callable[..., Tensor], arguments: tuple[Tensor, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.autocast = tape.autocast
        self.saves = 0
        self.recomputing = False
        self.recomputed: list[Saved] = []

    def pack(self, tensors: Saved) -> Packed | Saved:
        """Drop what a node saves and hand out a receipt; while recomputing, keep it."""
        if not self.recomputing:
            self.saves += 1
            return Packed(self, self.saves - 1)
        self.recomputed.append(tuple([tensor and tensor.detach() for tensor in tensors]))
        if len(self.recomputed) == self.saves:
            raise _StopRecomputationError
        return ()

    def recompute(self, tape: Tape) -> None:
        """Run the region again, as far as its nodes need it."""
        grad_enabled, region, autocast, casts = tape.grad_enabled, tape.region, tape.autocast, tape.casts
        component, scope = tape.component, tape.scope
        tape.grad_enabled, tape.region, tape.autocast, tape.casts = True, self, self.autocast, {}
        tape.component = "activations"
        self.recomputing = True
        with suppress(_StopRecomputationError):
            self.function(*self.arguments)
        tape.component, tape.scope = component, scope
        tape.grad_enabled, tape.region, tape.autocast, tape.casts = grad_enabled, region, autocast, casts


class Packed:
    """A receipt for the tensors one node saved inside a checkpointed region."""

    __slots__ = ("index", "region")

    def __init__(self, region: Region, index: int) -> None:
        self.region = region
        self.index = index

    def unpack(self) -> Saved:
        """Take the tensors, recomputing the region if nobody did yet."""
        region = self.region
        if not region.recomputing:
            region.recompute(_tape(region))
        saved = region.recomputed[self.index]
        region.recomputed[self.index] = ()
        return saved


def _tape(region: Region) -> Tape:
    return region.arguments[0].tape


def checkpoint(function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """``function(*arguments)``, keeping only the arguments until backward."""
    tape = arguments[0].tape
    if not tape.grad_enabled or tape.region is not None:
        return function(*arguments)
    tape.region = Region(tape, function, arguments)
    try:
        return function(*arguments)
    finally:
        tape.region = None
