"""A trace cut into passes through the layers, and passes into what each layer does.

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
from memplan.simulator.folding import REPEATED, UNITS

MIDDLE = {REPEATED, REPEATED + 1}
_THROUGH = {1: MIDDLE | {UNITS - 1}, -1: MIDDLE | {0}, 0: MIDDLE}
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

    def middle(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The bounds of the middle layers, in the order they are met."""
        bounds = self.bounds()
        first, second = sorted(MIDDLE, reverse=self.direction < 0)
        return bounds[first], bounds[second]


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
        """
        steps = [
            above if below[1] < 0 else below for below, above in zip(self.steps, upper.steps, strict=True)
        ]
        return replace(self, steps=steps)

    def facts(self) -> tuple[object, ...]:
        """Everything but the numbers of the neighbours' blocks: what layers have in common that are alike."""
        own = [step if not step[1] else step[:2] for step in self.steps]
        return own, self.sizes, self.tags, self.once, self.met


def _through(trace: Trace) -> Iterator[Pass]:
    """All passes through the layers in the middle, in order. None goes on beyond its phase.

    Raises:
        IrregularError: a layer in the middle is met on its own.
    """
    bounds = [start for start, _ in trace.phases] + [len(trace.events)]
    for start, end in pairwise(bounds):
        for found in _passes(trace, start, end):
            if _THROUGH[found.direction] <= set(found.layers):
                yield found
            elif not MIDDLE.isdisjoint(found.layers):
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


class Layers:
    """A small trace, its passes, and its units; ``ordinals`` count the blocks of each layer."""

    __slots__ = ("ordinals", "trace")

    def __init__(self, trace: Trace) -> None:
        self.trace = replace(trace, events=_sorted(trace))
        self.ordinals = _ordinals(trace)

    def passes(self) -> Iterator[tuple[Pass, Unit, Unit]]:
        """Each pass through the middle layers, with what the lower and the upper of them do: the same.

        Raises:
            IrregularError: it is not.
        """
        for found in _through(self.trace):
            bounds = found.bounds()
            lower, upper = (self._unit(layer, *bounds[layer]) for layer in sorted(MIDDLE))
            if lower.facts() != upper.facts():
                raise IrregularError
            yield found, lower, upper

    def _unit(self, layer: int, start: int, end: int) -> Unit:
        trace, ordinals = self.trace, self.ordinals
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


def _sorted(trace: Trace) -> list[int]:
    """Events with what belongs to no layer first among frees that follow one another in a phase.

    Their order means nothing, nor is it that of the layers: CPython puts off the last frees of a deep graph.
    """
    events: list[int] = []
    starts = {start for start, _ in trace.phases}
    freed: list[int] = []
    for index, event in enumerate((*trace.events, 0)):
        if event >= 0 or index in starts:
            events += sorted(freed, key=lambda free: trace.layers[~free] != OUTSIDE)
            freed = []
        (freed if event < 0 else events).append(event)
    return events[:-1]


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
