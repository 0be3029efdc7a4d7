"""The most memory a trace has allocated at once, without an allocator: blocks are rounded, and summed up.

The allocator may hand out a block with up to 1 MiB too much rather than split it, and never one that is too
small: what it reports is this or somewhat more.

A layer adds to what is allocated as much as the one before it. Of all the layers a fold leaves out the last
therefore peaks, or the first if layers give back: the peak of a deep model costs as much as that of a shallow
one.
"""

from __future__ import annotations

from itertools import pairwise

from memplan.domain.allocator import AllocatorOptions
from memplan.domain.trace import Phase, Trace
from memplan.simulator import rounding
from memplan.simulator.folding import Fold
from memplan.simulator.units import Layers


def peaks(trace: Trace, fold: Fold | None, options: AllocatorOptions | None = None) -> dict[Phase, int]:
    """The most bytes allocated in each phase by the whole model, of which the layers of a fold are traced.

    The last cycle counts again as it repeats itself: with all that is made only once.

    Raises:
        IrregularError: the trace does not repeat itself.
    """
    walk = _Walk(trace, fold, options)
    walk.through(0, once=True)
    if trace.cycles:
        walk.through(trace.cycles[-1], once=False)
    return walk.highest


class _Walk:
    """``level`` is what is allocated now, ``copied`` a layer's events by where its copies are left out."""

    __slots__ = ("copied", "highest", "level", "repeats", "sizes", "trace")

    def __init__(self, trace: Trace, fold: Fold | None, options: AllocatorOptions | None) -> None:
        divisions = options.roundup_power2_divisions if options is not None else ()
        self.trace = trace
        self.sizes = [rounding.block(size, divisions) for size in trace.sizes]
        self.repeats = 0
        self.copied: dict[int, tuple[int, int]] = {}
        self.level = 0
        self.highest: dict[Phase, int] = {}
        if fold is not None:
            layers = Layers(trace)
            self.trace = layers.trace
            self.repeats = fold.repeats
            self.copied = {bounds[1]: bounds for bounds in (it.middle()[0] for it, *_ in layers.passes())}

    def through(self, start: int, *, once: bool) -> None:
        """All phases from an event on, with what is made once or without."""
        trace = self.trace
        made = set() if once else trace.once
        bounds = [*(start for start, _ in trace.phases), len(trace.events)]
        for number, (begin, phase) in enumerate(trace.phases):
            if begin >= start:
                self._phase(begin, bounds[number + 1], phase, made)

    def _phase(self, start: int, end: int, phase: Phase, made: set[int]) -> None:
        """One phase, cut where layers are left out."""
        highest = self.highest.get(phase, 0)
        cuts = [start, *(cut for cut in self.copied if start < cut <= end), end]
        for begin, cut in pairwise(cuts):
            above, net = self._climb(begin, cut, made)
            highest = max(highest, self.level + above)
            self.level += net
            if cut in self.copied and cut != begin:
                above, net = self._climb(*self.copied[cut], made)
                highest = max(highest, self.level + max(0, (self.repeats - 1) * net) + above)
                self.level += self.repeats * net
        self.highest[phase] = highest

    def _climb(self, start: int, end: int, made: set[int]) -> tuple[int, int]:
        """What some events allocate at most (less than nothing if they only free), and in the end."""
        sizes = self.sizes
        level, highest = 0, -self.level
        for event in self.trace.events[start:end]:
            if event < 0:
                level -= sizes[~event]
            elif event not in made:
                level += sizes[event]
                if level > highest:
                    highest = level
        return highest, level
