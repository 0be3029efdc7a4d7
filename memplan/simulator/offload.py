"""Saved tensors that wait for backward in host memory: what leaves the GPU, and what comes back when.

Hooks see each tensor that a node saves. ``save_on_cpu`` (torch/autograd/graph.py) copies every one of them,
weights included. ``OffloadActivations`` (trl trl/models/activation_offloading.py, 2026-07; it began in
torchtune) leaves parameters, what the LM head saves, and tensors of less than 1 KiB where they are; a tensor
that is not contiguous is made so first. With a second stream a tensor stays on the GPU until five more have
been saved, and another view of one that still is there stays for good; in backward what a node got back lives
until the next node that gets something back is done. Within checkpointed regions their own hooks come first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, TypeVar

from memplan.domain.host import ActivationOffload
from memplan.simulator import layout
from memplan.simulator.layout import Shape
from memplan.simulator.tensor import Parameter, Tape, Tensor

if TYPE_CHECKING:
    from memplan.domain.dtype import Dtype

Result = TypeVar("Result")
Saved = tuple["Tensor | None", ...]

SMALLEST = 1024
"""Bytes below which a tensor is not worth the way (``min_offload_size``)."""

STASH = 5
"""Saved tensors after which the copy of one is taken to be done (``max_fwd_stash_size``)."""

RETURNED = "from_host"
"""The op of a tensor that comes back."""

COPYING = 9
"""The CUDA stream copies run on: what is allocated under it has segments of its own."""

_HEAD = "lm_head"


@dataclass(frozen=True, slots=True, eq=False)
class Away:
    """A tensor in host memory."""

    number: int
    shape: Shape
    strides: Shape
    dtype: Dtype


@dataclass(slots=True, eq=False)
class Offload:
    """The hooks of one process.

    ``stash`` holds tensors on their way to the host, ``returned`` those that came back, by their numbers.
    ``passing`` are the numbers of the latter that go when the running node is done, None if it got nothing.
    """

    tape: Tape
    kind: ActivationOffload
    count: int = 0
    stash: dict[int, Tensor] = field(default_factory=dict)
    returned: dict[int, Tensor] = field(default_factory=dict)
    passing: list[int] | None = None

    def pack(self, tensors: Saved) -> Saved | Offloaded:
        """Send away what a node saves, as far as it goes."""
        entries = [tensor and self._pack(tensor) for tensor in reversed(tensors)]
        if any(isinstance(entry, Away) for entry in entries):
            return Offloaded(self, entries)
        return tensors

    def bring(self, entry: Tensor | Away | None) -> Tensor | None:
        """A saved tensor for the node that is running, or for a region that it recomputes."""
        if not isinstance(entry, Away):
            return entry
        if self.streams and self.passing is None:
            self.passing = list(self.returned)
        found = self.stash.get(entry.number)
        if found is None:
            found = self._empty(entry.shape, entry.dtype, RETURNED, entry.strides)
            if self.streams:
                self.returned[entry.number] = found
        return found.detach()

    def ran(self) -> None:
        """A node of backward is done."""
        if self.passing is not None:
            self.stash.clear()
            for number in self.passing:
                self.returned.pop(number, None)
            self.passing = None

    def over(self) -> None:
        """Backward is done."""
        self.returned.clear()

    @property
    def streams(self) -> bool:
        """Whether copies run beside the computation."""
        return self.kind is ActivationOffload.STREAMS

    def _pack(self, tensor: Tensor) -> Tensor | Away:
        self.count += 1
        if self.kind is ActivationOffload.SAVE_ON_CPU:
            return self._away(tensor, layout.contiguous(tensor.shape))
        if self._stays(tensor):
            return tensor
        for number in [number for number in self.stash if number <= self.count - STASH]:
            del self.stash[number]
        if not layout.is_contiguous(tensor.shape, tensor.strides):
            tensor = self._empty(tensor.shape, tensor.dtype, "contiguous")
        if self.streams:
            self.stash[self.count] = tensor
        return self._away(tensor, tensor.strides)

    def _empty(self, shape: Shape, dtype: Dtype, op: str, strides: Shape | None = None) -> Tensor:
        tensor = self.tape.empty(shape, dtype, op, strides)
        if self.streams:
            self.tape.trace.streams[tensor.storage.block] = COPYING
        return tensor

    def _stays(self, tensor: Tensor) -> bool:
        if isinstance(tensor, Parameter) or isinstance(tensor.base, Parameter) or self.tape.scope == _HEAD:
            return True
        if any(held.storage is tensor.storage for held in self.stash.values()):
            return True
        return prod(tensor.shape) * tensor.dtype.itemsize < SMALLEST

    def _away(self, tensor: Tensor, strides: Shape) -> Away:
        return Away(self.count, tensor.shape, strides, tensor.dtype)


class Offloaded:
    """What one node saved, or one checkpointed region holds, with some of it in host memory.

    ``entries`` are in the order in which PyTorch's generated code packs and unpacks them, by the arguments'
    names; nodes save in the opposite order, that in which they are given up.
    """

    __slots__ = ("entries", "offload")

    def __init__(self, offload: Offload, entries: list[Tensor | Away | None]) -> None:
        self.offload = offload
        self.entries = entries

    def unpack(self) -> Saved:
        """The tensors, those from the host as new ones."""
        return tuple(reversed([self.offload.bring(entry) for entry in self.entries]))


def offloading(run: Callable[..., Result]) -> Callable[..., Result]:
    """A way to checkpoint whose regions keep their hidden states in host memory.

    Source: ``_activation_checkpointing_enable`` in transformers src/transformers/modeling_utils.py (since
    5.17), which puts ``save_on_cpu(pin_memory=True)`` around the call.
    """

    def call(function: Callable[..., Result], hidden_states: Tensor, *others: Tensor | None) -> Result:
        tape = hidden_states.tape
        outer, tape.offload = tape.offload, Offload(tape, ActivationOffload.SAVE_ON_CPU)
        try:
            return run(function, hidden_states, *others)
        finally:
            tape.offload = outer

    return call
