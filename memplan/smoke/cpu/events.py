"""A real run on the CPU as a trace: every allocation PyTorch's profiler sees, with what it is and when.

The profiler writes down each allocation with its address and the op it was made in. Marks (empty profiler
ranges) that are left between the ops say where a phase, a module or the backward pass of the head begins.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch.autograd.profiler import record_function

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Tag, Trace
from memplan.smoke.cuda import dtype_of
from memplan.smoke.meter import Named

MARK = "memplan:"
LOGITS = "logits_and_loss"

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
"""Ops that oneDNN computes, which has scratch memory of its own, where a GPU's libraries have workspaces."""

_EVALUATED = "autograd::engine::evaluate_function"


class Scopes:
    """The modules that run, innermost last; the profiler is told of every change."""

    def __init__(self) -> None:
        self._names: list[str] = [""]

    def append(self, name: str) -> None:
        """A module begins."""
        self._names.append(name)
        _mark("scope", name)

    def pop(self) -> None:
        """It is over."""
        self._names.pop()
        _mark("scope", self._names[-1])


class Events:
    """A meter that leaves marks for the profiler, and puts what it saw together afterwards.

    ``notes`` holds what tensors turned out to be at a mark: address, component, name, use. ``scratch`` is
    what a matrix product took for itself at most: oneDNN packs half numbers anew. It is left out.
    """

    def __init__(self) -> None:
        self.scope = Scopes()
        self.notes: list[tuple[tuple[int, Tag], ...]] = []
        self.boundary = 0
        self.scratch = 0
        self._in_head = False
        self._in_backward = False

    def begin_step(self) -> None:
        """An optimizer step begins: nothing to note, since all of them are there."""

    def enter(self, phase: Phase) -> None:
        """A phase begins."""
        self._in_backward = phase is Phase.BACKWARD
        if phase is not Phase.LOSS and not self._in_backward:
            self._in_head = False
        _mark("phase", phase)

    def leave(self, _phase: Phase, /) -> None:
        """It is over; what the loop does beside is not measured by itself."""
        self._in_backward = False

    def enter_head(self) -> None:
        """From here to the end of the forward pass, everything is logits and loss, and so is its gradient."""
        if not self._in_backward and not self._in_head:
            self._in_head = True
            _mark("head", torch._C._autograd._get_sequence_nr())

    def enter_loss(self) -> None:
        """The loss begins."""
        self.enter_head()
        if not self._in_backward:
            self.enter(Phase.LOSS)

    def name(self, tensors: Iterable[Named]) -> None:
        """Note where tensors lie."""
        self.notes.append(tuple(_noted(tensors)))
        _mark("note", len(self.notes) - 1)

    @contextmanager
    def watching(self, seeds: Iterable[Named]) -> Iterator[list[Trace]]:
        """Profile what runs in the block; its trace is the list's only item afterwards.

        ``seeds`` are what is there from the start.
        """
        self.notes = [tuple(_noted(seeds))]
        found: list[Trace] = []
        activities = [torch.profiler.ProfilerActivity.CPU]
        with warnings.catch_warnings():
            # What the profiler says of clocks, and the libraries of a training in miniature.
            warnings.simplefilter("ignore")
            profile = torch.profiler.profile(activities=activities, profile_memory=True)
            with profile:
                yield found
        reader = _Reader(self.notes)
        found.append(reader.read(profile.profiler.kineto_results))
        self.scratch = reader.scratch


def _mark(kind: str, value: object) -> None:
    with record_function(f"{MARK}{kind}:{value}"):
        pass


def _noted(tensors: Iterable[Named]) -> Iterator[tuple[int, Tag]]:
    seen: set[int] = set()
    for tensor, component, name, use in tensors:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen and storage.nbytes():
            seen.add(storage.data_ptr())
            whole = prod(tensor.shape) * tensor.element_size() == storage.nbytes()
            shape = tuple(tensor.shape) if whole else (storage.nbytes(),)
            yield (
                storage.data_ptr(),
                (component, name, use, shape, dtype_of(tensor) if whole else Dtype.UINT8),
            )


class _Reader:
    """Puts a trace together, event by event in order of time."""

    def __init__(self, notes: list[tuple[tuple[int, Tag], ...]]) -> None:
        self.trace = Trace()
        self.notes = notes
        self.blocks: dict[int, int] = {}
        self.phase = Phase.LOAD
        self.scope = ""
        self.in_head = False
        self.boundary = 0
        self.scratch = 0
        self.trace.enter(Phase.LOAD)
        for address, tag in notes[0]:
            size = prod(tag[3]) * tag[4].itemsize
            self.blocks[address] = self.trace.allocate(size, tag)

    def read(self, results: Any) -> Trace:
        """What the profiler has seen."""
        found: list[tuple[int, int, Any, int, str]] = []
        stack = [(event, -1, "") for event in reversed(results.experimental_event_tree())]
        while stack:
            event, sequence, op = stack.pop()
            kind = type(event.extra_fields).__name__
            if kind == "_ExtraFields_Allocation":
                found.append((event.start_time_ns, len(found), event.extra_fields, sequence, op))
            elif event.name.startswith(MARK):
                found.append((event.start_time_ns, len(found), event.name, sequence, op))
            elif event.name.startswith(_EVALUATED):
                sequence = event.extra_fields.sequence_number
            elif kind == "_ExtraFields_TorchOp":
                op = event.name
            children = self._without_scratch(event) if event.name in PRODUCTS else event.children
            stack += [(child, sequence, op) for child in reversed(children)]
        for _, _, what, sequence, op in sorted(found, key=lambda item: item[:2]):
            if isinstance(what, str):
                self._mark(*what.removeprefix(MARK).split(":", 1))
            else:
                self._memory(what.ptr, what.alloc_size, sequence, op)
        return self.trace

    def _without_scratch(self, product: Any) -> list[Any]:
        """The children of a matrix product but what it took and returned by itself."""
        children = list(product.children)
        taken: dict[int, int] = {}
        gone: set[int] = set()
        for index, child in enumerate(children):
            if type(child.extra_fields).__name__ == "_ExtraFields_Allocation":
                address, size = child.extra_fields.ptr, child.extra_fields.alloc_size
                if size > 0:
                    taken[address] = index
                elif address in taken:
                    gone |= {taken.pop(address), index}
                    self.scratch = max(self.scratch, -size)
        return [child for index, child in enumerate(children) if index not in gone]

    def _mark(self, kind: str, value: str) -> None:
        if kind == "phase":
            self.phase = Phase(value)
            self.trace.enter(self.phase)
            self.in_head = self.phase is Phase.LOSS
        elif kind == "scope":
            self.scope = value
        elif kind == "head":
            self.in_head, self.boundary = True, int(value)
        else:
            for address, tag in self.notes[int(value)]:
                if address in self.blocks:
                    self.trace.tags[self.blocks[address]] = tag

    def _memory(self, address: int, size: int, sequence: int, op: str) -> None:
        if size > 0:
            tag = (self._component(sequence), self.scope, op.removeprefix("aten::"), (size,), Dtype.UINT8)
            self.blocks[address] = self.trace.allocate(size, tag)
        elif address in self.blocks:
            # What was there before the profiler, and is no seed, is none of the run's.
            self.trace.free(self.blocks.pop(address))

    def _component(self, sequence: int) -> str:
        if self.phase in (Phase.LOAD, Phase.OPTIMIZER):
            return "temporaries"
        if self.phase is Phase.BACKWARD and not self.scope:
            return LOGITS if sequence >= self.boundary else "temporaries"
        return LOGITS if self.in_head else "activations"
