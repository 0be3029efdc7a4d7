"""The order in which a quantized model reaches the GPU.

A checkpoint is sorted by name; one weight after the other is read straight to the GPU and quantized there
(``convert_and_load_state_dict_in_model`` in transformers core_model_loading.py). The order matters because
the allocator hands out a block with up to 1 MiB too much rather than split it: a resident model may be
percents larger than its tensors. For the same reason it matters what was taken and returned before, so that
one segment holds it all (``caching_allocator_warmup`` in modeling_utils.py): what the quantized model will
need since transformers 5.0, half of the model as it is read from 4.51 on, nothing before.

Releases 5.0 to 5.3 quantize while a pool of four threads reads ahead (``GLOBAL_WORKERS``): the one that
quantizes waits for the embeddings or the head first, and meanwhile the others pile up whole weights. Who is
first differs from run to run; simulated are readers of one speed and quantizing in no time. Before and since
a weight is read when the one before it is quantized.
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.trace import Trace
from memplan.domain.workload import Quantization

Key = tuple[tuple[bool, int, str], ...]
Piece = tuple[Key, int, int]
"""The events of one weight: its place in the checkpoint, and the first and the next event's index."""

_HEAD = "decoder_matrix"

READERS = 4
"""Threads that read a checkpoint, on machines with as many processors."""


def readers(quantization: Quantization, framework: Framework) -> int:
    """How many threads read ahead while a model is quantized; 0 if weights are read one by one."""
    if quantization.readers is not None:
        return quantization.readers
    pooled = framework.transformers_before(5, 4) and not framework.transformers_before(5, 0)
    return READERS if pooled else 0


class Recorder:
    """What each weight of a model does to memory while it is loaded.

    ``whole`` are the bytes of the model as it is read, ``needed`` those of its weights once quantized.
    """

    __slots__ = ("framework", "needed", "pieces", "seen", "start", "trace", "whole")

    def __init__(self, trace: Trace, framework: Framework) -> None:
        self.trace = trace
        self.framework = framework
        self.start = len(trace.events)
        self.pieces: list[Piece] = []
        self.seen: dict[str, int] = {}
        self.needed = 0
        self.whole = 0

    def add(self, name: str, component: str, start: int, needed: int, whole: int) -> None:
        """Note that the events from ``start`` on load a weight: ``whole`` bytes, of which ``needed`` remain.

        Blocks share one name (``layers.*.mlp``): its n-th weight is the one of the n-th block.
        """
        depth = self.seen.get(name, 0)
        self.seen[name] = depth + 1
        self.pieces.append((_key(name, component, depth), start, len(self.trace.events)))
        self.needed += needed
        self.whole += whole

    def sort(self, threads: int) -> None:
        """Put the events in the order they happen in, behind the warm-up: ``threads`` may read ahead."""
        events = self.trace.events
        loaded = self._ahead(threads) if threads else self._one_by_one()
        within = {index for _, start, end in self.pieces for index in range(start, end)}
        others = [events[index] for index in range(self.start, len(events)) if index not in within]
        size = self._warmup()
        if size:
            block = self.trace.allocate(size, ("temporaries", "loading", "warmup", (size,), Dtype.UINT8))
            loaded = [block, ~block, *loaded]
        events[self.start :] = [*loaded, *others]

    def _one_by_one(self) -> list[int]:
        events = self.trace.events
        return [event for _, start, end in sorted(self.pieces) for event in events[start:end]]

    def _ahead(self, threads: int) -> list[int]:
        """A weight takes its memory when a reader turns to it, and as long as it is large to be there.

        What is made of it follows as soon as it and all weights before it are there.
        """
        events, sizes = self.trace.events, self.trace.sizes
        due = [0] * threads
        ready = 0
        steps: list[tuple[int, bool, int, list[int]]] = []
        for index, (_, start, end) in enumerate(sorted(self.pieces)):
            reader = due.index(min(due))
            steps.append((due[reader], False, index, [events[start]]))
            due[reader] += sizes[events[start]]
            ready = max(ready, due[reader])
            steps.append((ready, True, index, events[start + 1 : end]))
        return [event for _, _, _, part in sorted(steps) for event in part]

    def _warmup(self) -> int:
        if self.framework.transformers_before(4, 51):
            return 0
        return self.whole // 2 if self.framework.transformers_before(5, 0) else self.needed


def _key(name: str, component: str, depth: int) -> Key:
    """Names sort by their parts, numbers by value; ``lm_head`` comes before ``model.``."""
    parts = [(True, depth, "") if part == "*" else (True, 0, part) for part in name.split(".")]
    return ((component != _HEAD, 0, ""), *parts)
