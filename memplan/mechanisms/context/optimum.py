"""The best placement of checkpoints there is, segments being of any length, by dynamic programming."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from memplan.mechanisms.context.intervals import kept
from memplan.mechanisms.context.placement import (
    Placement,
    Segment,
    Stack,
    held,
    needs,
    peak,
    require_whole,
)


def lowest_peak(stack: Stack) -> int:
    """The least peak of any placement, in bytes.

    A placement within a budget is found layer by layer, always with the least that can be held; budgets are
    halved until they meet.
    """
    highest = peak(stack, kept(len(stack)))
    reach = _Reach(stack)
    return bisect_left(range(highest), True, key=lambda budget: reach.within(budget))


def cheapest(stack: Stack, budget: int) -> Placement | None:
    """Of all placements with a peak within ``budget`` bytes, one with the least recomputation.

    Segments may be of any lengths, each kept or recomputed. Among equal costs it is the one that holds the
    least at the end. None if no placement fits.

    Raises:
        FieldError: the budget is not a whole number of bytes.
    """
    require_whole("the budget", budget)
    return _Search(stack, budget).run()


class _Reach:
    """Whether any placement stays within a budget: what must be held at least before each layer."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.table = [[(item.stop, need, held(stack, item)) for item, need in row] for row in _table(stack)]

    def within(self, budget: int) -> bool:
        """Whether one does."""
        beyond = budget + 1
        least = [0] + [beyond] * len(self.stack)
        for before, row in zip(least, self.table, strict=False):
            for stop, needed, holding in row:
                if before + needed <= budget:
                    least[stop] = min(least[stop], before + holding)
        return least[-1] + self.stack.head <= budget


@dataclass(frozen=True, slots=True)
class _State:
    """A placement of the first layers: what it costs, what it holds, and its last segment."""

    cost: int
    holds: int
    last: Segment | None = None
    before: _State | None = None


class _Search:
    """Dynamic programming over layers; of the placements up to a layer only those matter that are best.

    Of two that cost the same the one that holds less is never worse later on, nor of two that hold the same
    the cheaper one.
    """

    def __init__(self, stack: Stack, budget: int) -> None:
        self.stack = stack
        self.budget = budget
        self.table = _table(stack)
        self.fronts: list[list[_State]] = [[] for _ in range(len(stack) + 1)]

    def run(self) -> Placement | None:
        """The best placement of all layers."""
        self.fronts[0] = [_State(0, 0)]
        for start, row in enumerate(self.table):
            self.fronts[start] = _undominated(self.fronts[start])
            for segment, needed in row:
                self._extend(self.fronts[start], segment, needed)
        ends = [state for state in self.fronts[-1] if state.holds + self.stack.head <= self.budget]
        if not ends:
            return None
        return _joined(min(ends, key=lambda state: (state.cost, state.holds)))

    def _extend(self, front: list[_State], segment: Segment, needed: int) -> None:
        layers = self.stack.layers[segment.start : segment.stop]
        cost = sum(layer.recompute for layer in layers) if segment.recomputed else 0
        holding = held(self.stack, segment)
        self.fronts[segment.stop] += [
            _State(state.cost + cost, state.holds + holding, segment, state)
            for state in front
            if state.holds + needed <= self.budget
        ]


def _table(stack: Stack) -> list[tuple[tuple[Segment, int], ...]]:
    """Segments from each layer on, with what they need: recomputed ones of any length, kept single layers.

    Longer kept segments are kept layers in a row.
    """
    table = []
    for start in range(len(stack)):
        again = tuple(
            (Segment(start=start, stop=start + length, recomputed=True), needed)
            for length, needed in enumerate(needs(stack, start, recomputed=True), 1)
        )
        single = Segment(start=start, stop=start + 1, recomputed=False)
        table.append(((single, needs(stack, start, recomputed=False)[0]), *again))
    return table


def _undominated(states: list[_State]) -> list[_State]:
    found: list[_State] = []
    for state in sorted(states, key=lambda item: (item.holds, item.cost)):
        if not found or state.cost < found[-1].cost:
            found.append(state)
    return found


def _joined(state: _State) -> Placement:
    """The segments that lead to a state; kept layers in a row make one segment."""
    segments: list[Segment] = []
    here: _State | None = state
    while here is not None and here.last is not None:
        last = here.last
        if segments and not segments[-1].recomputed and not last.recomputed:
            last = Segment(start=last.start, stop=segments.pop().stop, recomputed=False)
        segments.append(last)
        here = here.before
    return Placement(segments=tuple(reversed(segments)))
