"""The order in which a quantized model reaches the GPU.

transformers 5.x sorts a checkpoint by name, reads one weight after the other straight to the GPU and
quantizes it there (``convert_and_load_state_dict_in_model`` in core_model_loading.py). Before that it takes
and returns as much memory as the model will need, so that one segment holds it all
(``caching_allocator_warmup`` in modeling_utils.py). The order matters because the allocator hands out a
block with up to 1 MiB too much rather than split it: a resident model may be percents larger than its
tensors. Release 5.0 read with a pool of threads instead, which made this differ from run to run.
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Trace

Key = tuple[tuple[bool, int, str], ...]
Piece = tuple[Key, int, int]
"""The events of one weight: its place in the checkpoint, and the first and the next event's index."""

_HEAD = "decoder_matrix"


class Recorder:
    """What each weight of a model does to memory while it is loaded."""

    __slots__ = ("needed", "pieces", "seen", "start", "trace")

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.start = len(trace.events)
        self.pieces: list[Piece] = []
        self.seen: dict[str, int] = {}
        self.needed = 0

    def add(self, name: str, component: str, start: int, needed: int) -> None:
        """Note that the events from ``start`` on load a weight, of which ``needed`` bytes remain.

        Blocks share one name (``layers.*.mlp``): its n-th weight is the one of the n-th block.
        """
        depth = self.seen.get(name, 0)
        self.seen[name] = depth + 1
        self.pieces.append((_key(name, component, depth), start, len(self.trace.events)))
        self.needed += needed

    def sort(self) -> None:
        """Put the events in the order of the checkpoint, behind the warm-up."""
        events = self.trace.events
        loaded = [event for _, start, end in sorted(self.pieces) for event in events[start:end]]
        within = {index for _, start, end in self.pieces for index in range(start, end)}
        others = [events[index] for index in range(self.start, len(events)) if index not in within]
        block = self.trace.allocate(
            self.needed, ("temporaries", "loading", "warmup", (self.needed,), Dtype.UINT8)
        )
        events[self.start :] = [block, ~block, *loaded, *others]


def _key(name: str, component: str, depth: int) -> Key:
    """Names sort by their parts, numbers by value; ``lm_head`` comes before ``model.``."""
    parts = [(True, depth, "") if part == "*" else (True, 0, part) for part in name.split(".")]
    return ((component != _HEAD, 0, ""), *parts)
