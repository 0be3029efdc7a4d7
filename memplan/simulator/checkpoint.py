"""Activation checkpointing as ``torch.utils.checkpoint`` does it with ``use_reentrant=False``.

The region's graph is built in forward, but what its nodes would save is dropped. When backward asks
for the first of these tensors, the region runs again and keeps what its nodes save, stopping as soon
as the last one is there; each tensor is given up as its node takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar
from weakref import ref

if TYPE_CHECKING:
    from memplan.simulator.offload import Offloaded
    from memplan.simulator.tensor import Tape, Tensor

Result = TypeVar("Result")
Saved = tuple["Tensor | None", ...]


class _StopRecomputationError(Exception):
    """Everything the region's nodes save has been recomputed."""


class Region:
    """A function run under checkpointing: its arguments, and receipts for what its nodes saved.

    What belongs to a node that is gone by then (nothing of it was used) is not kept when it is recomputed.

    The arguments beside the hidden states are kept in reverse: tuples let go of their items last to first,
    and transformers passes these by keyword, in a dictionary, which lets go of them first to last.

    ``away`` are the hidden states if hooks that were in force sent them to the host, ``node`` what computes
    their gradient.
    """

    __slots__ = (
        "arguments",
        "autocast",
        "away",
        "function",
        "node",
        "receipts",
        "recomputed",
        "recomputing",
        "tape",
    )

    def __init__(
        self, tape: Tape, function: Callable[..., object], arguments: tuple[Tensor | None, ...]
    ) -> None:
        self.tape = tape
        self.function = function
        self.away: Offloaded | None = None
        if tape.offload is not None and arguments[0] is not None:
            packed = tape.offload.pack(arguments[:1])
            if not isinstance(packed, tuple):
                self.away, self.node = packed, arguments[0].node
                arguments = (None, *arguments[1:])
        self.arguments = arguments
        self.autocast = tape.autocast
        self.receipts: list[ref[Packed]] = []
        self.recomputing = False
        self.recomputed: list[Saved] = []

    def pack(self, tensors: Saved) -> Packed | Saved:
        """Drop what a node saves and hand out a receipt; while recomputing, keep it for its owner."""
        if not self.recomputing:
            packed = Packed(self, len(self.receipts))
            self.receipts.append(ref(packed))
            return packed
        kept = tuple([tensor and tensor.detach() for tensor in tensors])
        wanted = self.receipts[len(self.recomputed)]() is not None
        self.recomputed.append(kept if wanted else ())
        if len(self.recomputed) == len(self.receipts):
            raise _StopRecomputationError
        return () if wanted else kept

    def recompute(self) -> None:
        """Run the region again, as far as its nodes need it."""
        tape = self.tape
        grad_enabled, region, autocast, casts = tape.grad_enabled, tape.region, tape.autocast, tape.casts
        component, scope = tape.component, tape.scope
        tape.grad_enabled, tape.region, tape.autocast, tape.casts = True, self, self.autocast, {}
        tape.component = "activations"
        self.recomputing = True
        hidden_states = self._hidden_states()
        with suppress(_StopRecomputationError):
            self.function(hidden_states, *self.arguments[:0:-1])
        tape.component, tape.scope = component, scope
        tape.grad_enabled, tape.region, tape.autocast, tape.casts = grad_enabled, region, autocast, casts

    def _hidden_states(self) -> Tensor | None:
        if self.away is None:
            return self.arguments[0]
        (found,) = self.away.unpack()
        if found is not None:
            found.node = self.node
        return found


class Packed:
    """A receipt for the tensors one node saved inside a checkpointed region."""

    __slots__ = ("__weakref__", "index", "region")

    def __init__(self, region: Region, index: int) -> None:
        self.region = region
        self.index = index

    def unpack(self) -> Saved:
        """Take the tensors, recomputing the region if nobody did yet."""
        region = self.region
        if not region.recomputing:
            region.recompute()
        saved = region.recomputed[self.index]
        region.recomputed[self.index] = ()
        return saved


def checkpoint(function: Callable[..., Result], hidden_states: Tensor, *others: Tensor | None) -> Result:
    """``function(hidden_states, *others)``, keeping only the arguments until backward."""
    tape = hidden_states.tape
    if not tape.grad_enabled or tape.region is not None:
        return function(hidden_states, *others)
    tape.region = Region(tape, function, (hidden_states, *reversed(others)))
    try:
        return function(hidden_states, *others)
    finally:
        tape.region = None
