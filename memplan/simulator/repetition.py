"""A trace of a few layers as the trace of all of them: equal layers do equal things to memory."""

from __future__ import annotations

from memplan.domain.trace import Trace
from memplan.simulator.folding import REPEATED, UNITS, Fold
from memplan.simulator.units import Layers, Pass, Unit


def unfold(trace: Trace, fold: Fold) -> Trace:
    """The trace of the whole model, from that of the layers of a fold.

    Raises:
        IrregularError: the trace does not repeat itself.
    """
    layers = Layers(trace)
    writer = _Writer(layers, fold.repeats)
    for found, lower, upper in layers.passes():
        writer.write(found, lower, upper)
    return writer.finish()


class _Writer:
    """The whole trace under way.

    ``numbers`` are what it calls the blocks of each layer in their order; what belongs to no layer comes last
    there. ``added`` says where events were put in.
    """

    __slots__ = ("added", "done", "numbers", "ordinals", "repeats", "small", "whole")

    def __init__(self, layers: Layers, repeats: int) -> None:
        self.small = layers.trace
        self.ordinals = layers.ordinals
        self.repeats = repeats
        self.whole = Trace()
        self.done = 0
        self.added: list[tuple[int, int]] = []
        self.numbers: list[list[int]] = [[] for _ in range(UNITS + repeats + 1)]

    def write(self, found: Pass, lower: Unit, upper: Unit) -> None:
        """Everything up to the end of a pass, with the layers that are missing in the middle of it."""
        (start, _), (_, end) = found.middle()
        first, last = REPEATED, REPEATED + 1 + self.repeats
        inner = lower.between(upper)
        self._copy(start)
        for layer in range(first, last + 1) if found.direction > 0 else range(last, first - 1, -1):
            self._repeat(lower if layer == first else upper if layer == last else inner, layer)
        self.done = end
        self.added.append((self.done, self.repeats * len(inner.steps)))
        self._copy(found.starts[-1])

    def finish(self) -> Trace:
        """The rest of the trace, and where its phases and cycles start."""
        small, whole = self.small, self.whole
        self._copy(len(small.events))
        whole.phases = [(self._index(start), phase) for start, phase in small.phases]
        whole.cycles = [self._index(start) for start in small.cycles]
        return whole

    def _repeat(self, unit: Unit, layer: int) -> None:
        """A layer that does what the unit does."""
        whole, numbers = self.whole, self.numbers
        base = len(whole.sizes)
        whole.sizes += unit.sizes
        whole.tags += unit.tags
        whole.layers += [layer] * len(unit.sizes)
        whole.once.update([base + made for made in unit.once])
        for away, blocks in unit.made.items():
            numbers[layer + away] += [base + made for made in blocks]
        whole.events += [
            base + made if made >= 0 else ~numbers[layer + away][ordinal]
            for made, away, ordinal in unit.steps
        ]

    def _copy(self, end: int) -> None:
        """The events of the small trace as far as ``end``; layers behind the middle move to the back."""
        small, whole = self.small, self.whole
        for event in small.events[self.done : end]:
            block = event if event >= 0 else ~event
            layer = small.layers[block]
            layer += self.repeats if layer > REPEATED else 0
            numbers = self.numbers[layer]
            if event < 0:
                whole.events.append(~numbers[self.ordinals[block]])
                continue
            whole.layer = layer
            numbers.append(whole.allocate(small.sizes[block], small.tags[block]))
            if block in small.once:
                whole.once.add(numbers[-1])
        self.done = end

    def _index(self, index: int) -> int:
        """Where an event of the small trace is in the whole one."""
        return index + sum(added for place, added in self.added if place <= index)
