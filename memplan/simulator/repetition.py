"""A trace of a few layers as the trace of all of them: equal layers do equal things to memory.

Events are told apart by the layer their block belongs to. Forward goes through the layers in one direction,
backward in the other, and an optimizer several times in both: each such *pass* is cut into *units* where a
layer's first event is. A unit names a block by its layer, counted from the unit's own, and by how many blocks
of that layer came before it. In these names the units of the two middle layers must be the same, and then so
are those of the layers between them that were left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from memplan.domain.trace import OUTSIDE, Tag, Trace
from memplan.simulator.folding import REPEATED, UNITS, Fold

_MIDDLE = {REPEATED, REPEATED + 1}
_THROUGH = {1: _MIDDLE | {UNITS - 1}, -1: _MIDDLE | {0}, 0: _MIDDLE}
"""The layers a pass in a direction has to meet: those in the middle, and where the second of them ends."""


class IrregularError(Exception):
    """Layers that should be alike are not."""


@dataclass(slots=True)
class Pass:
    """One way through the layers: which are met, in order, where the events of each start, and the end."""

    layers: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)

    @property
    def direction(self) -> int:
        """1 upwards, -1 downwards, 0 while there is one layer."""
        return self.layers[1] - self.layers[0] if len(self.layers) > 1 else 0

    def meet(self, layer: int, index: int) -> None:
        """The events from ``index`` on are a layer's."""
        self.layers.append(layer)
        self.starts.append(index)

    def bounds(self) -> dict[int, tuple[int, int]]:
        """The first and the next event of each layer."""
        return dict(zip(self.layers, pairwise(self.starts), strict=True))


@dataclass(slots=True)
class Unit:
    """What one layer does in one pass.

    ``steps`` are its events: the number of an allocation within the unit (or -1 for a free), the layer of
    the block counted from the unit's, and the block's number among those of its layer. ``made`` lists the
    unit's allocations by the layer, counted likewise; ``met`` are its neighbours' blocks that it frees.
    """

    steps: list[tuple[int, int, int]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)
    once: list[int] = field(default_factory=list)
    made: dict[int, list[int]] = field(default_factory=dict)
    met: list[tuple[int, Tag]] = field(default_factory=list)

    def between(self, upper: Unit) -> Unit:
        """What a layer between this one and its copy does.

        The copy's lower neighbour is alike, and this one's upper: there blocks have the same numbers.

        Raises:
            IrregularError: it is no copy.
        """
        if len(self.steps) != len(upper.steps) or self.facts() != upper.facts():
            raise IrregularError
        steps = [
            above if below[1] < 0 else below for below, above in zip(self.steps, upper.steps, strict=True)
        ]
        return replace(self, steps=steps)

    def facts(self) -> tuple[object, ...]:
        """Everything but the numbers of the neighbours' blocks."""
        own = [step if not step[1] else step[:2] for step in self.steps]
        return own, self.sizes, self.tags, self.once, self.met


def passes(trace: Trace) -> Iterator[Pass]:
    """All passes through the layers in the middle, in order. None goes on beyond its phase.

    Raises:
        IrregularError: a layer in the middle is met on its own.
    """
    bounds = [start for start, _ in trace.phases] + [len(trace.events)]
    for start, end in pairwise(bounds):
        for found in _passes(trace, start, end):
            if _THROUGH[found.direction] <= set(found.layers):
                yield found
            elif not _MIDDLE.isdisjoint(found.layers):
                raise IrregularError


def _passes(trace: Trace, start: int, end: int) -> Iterator[Pass]:
    """The passes of one phase. While one layer is at work, only its neighbours' blocks come and go besides.

    What belongs to the layer before last after all is a way back, from where the last one's events end.
    """
    events, layers = trace.events, trace.layers
    found = Pass()
    here, back = OUTSIDE, -1
    for index in range(start, end):
        event = events[index]
        layer = layers[event if event >= 0 else ~event]
        if layer == OUTSIDE:
            continue
        step, direction = layer - here, found.direction
        if step == 0:
            back = -1
        elif direction and step == -direction:
            back = index if back < 0 else back
        elif found.layers and (step == direction or (not direction and abs(step) == 1)):
            found.meet(layer, index)
            here, back = layer, -1
        else:
            turn = Pass()
            if direction and step == -2 * direction and back >= 0:
                turn.meet(here - direction, back)
            found.starts.append(turn.starts[0] if turn.starts else index)
            yield found
            found = turn
            found.meet(layer, index)
            here, back = layer, -1
    found.starts.append(end)
    yield found


def unfold(trace: Trace, fold: Fold) -> Trace:
    """The trace of the whole model, from that of the layers of a fold.

    Raises:
        IrregularError: the trace does not repeat itself.
    """
    trace = replace(trace, events=_sorted(trace))
    writer = _Writer(trace, fold.repeats)
    for found in passes(trace):
        writer.write(found)
    return writer.finish()


def _sorted(trace: Trace) -> list[int]:
    """Events with what belongs to no layer first among frees that follow one another.

    Their order means nothing, nor is it that of the layers: CPython puts off the last frees of a deep graph.
    """
    events: list[int] = []
    freed: list[int] = []
    for event in (*trace.events, 0):
        if event < 0:
            freed.append(event)
            continue
        if freed:
            freed.sort(key=lambda free: trace.layers[~free] != OUTSIDE)
            events += freed
            freed = []
        events.append(event)
    return events[:-1]


class _Writer:
    """The whole trace under way.

    ``ordinals`` count the blocks of each layer in the small trace, and ``numbers`` are what the whole one
    calls them; what belongs to no layer comes last there. ``added`` says where events were put in.
    """

    __slots__ = ("added", "done", "numbers", "ordinals", "repeats", "small", "whole")

    def __init__(self, small: Trace, repeats: int) -> None:
        self.small = small
        self.repeats = repeats
        self.whole = Trace()
        self.done = 0
        self.added: list[tuple[int, int]] = []
        self.numbers: list[list[int]] = [[] for _ in range(UNITS + repeats + 1)]
        self.ordinals = _ordinals(small)

    def write(self, found: Pass) -> None:
        """Everything up to the end of a pass, with the layers that are missing in the middle of it."""
        bounds = found.bounds()
        lower, upper = (self._unit(layer, *bounds[layer]) for layer in sorted(_MIDDLE))
        first, last = REPEATED, REPEATED + 1 + self.repeats
        inner = lower.between(upper)
        upwards = found.direction > 0
        self._copy(bounds[REPEATED if upwards else REPEATED + 1][0])
        for layer in range(first, last + 1) if upwards else range(last, first - 1, -1):
            self._repeat(lower if layer == first else upper if layer == last else inner, layer)
        self.done = bounds[REPEATED + 1 if upwards else REPEATED][1]
        self.added.append((self.done, self.repeats * len(inner.steps)))
        self._copy(found.starts[-1])

    def finish(self) -> Trace:
        """The rest of the trace, and where its phases and cycles start."""
        small, whole = self.small, self.whole
        self._copy(len(small.events))
        whole.phases = [(self._index(start), phase) for start, phase in small.phases]
        whole.cycles = [self._index(start) for start in small.cycles]
        return whole

    def _unit(self, layer: int, start: int, end: int) -> Unit:
        trace, ordinals = self.small, self.ordinals
        unit = Unit()
        for event in trace.events[start:end]:
            block = event if event >= 0 else ~event
            away = trace.layers[block] - layer
            if abs(away) > 1:
                raise IrregularError
            made = len(unit.sizes) if event >= 0 else -1
            unit.steps.append((made, away, ordinals[block]))
            if event < 0:
                if away:
                    unit.met.append((trace.sizes[block], trace.tags[block]))
                continue
            unit.made.setdefault(away, []).append(made)
            unit.sizes.append(trace.sizes[block])
            unit.tags.append(trace.tags[block])
            if block in trace.once:
                unit.once.append(made)
        return unit

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


def _ordinals(trace: Trace) -> list[int]:
    """The number of each block among those of its layer, in order of allocation."""
    counts: Counter[int] = Counter()
    ordinals = [0] * len(trace.sizes)
    for block in trace.events:
        if block >= 0:
            layer = trace.layers[block]
            ordinals[block] = counts[layer]
            counts[layer] += 1
    return ordinals
