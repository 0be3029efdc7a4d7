"""Where to checkpoint: the rule of the square root, the best uniform interval, and the best placement of all.

The rule (Chen et al., arXiv:1604.06174) cuts n layers into √n segments. It is the optimum of
``n / k · input + k · layer`` only where a layer's activations are as large as its input. A transformer block
saves fifteen times its input and more, so that segments of one layer take the least. ``sqrt_interval`` knows
the ratio; ``best_uniform`` and ``cheapest`` do without a rule.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import isqrt

from memplan.domain.errors import FieldError
from memplan.mechanisms.context.placement import (
    Placement,
    Segment,
    Stack,
    held,
    needs,
    peak,
    recomputed,
    require_whole,
)


def sqrt_interval(layers: int, *, input_bytes: int = 1, layer_bytes: int = 1) -> int:
    """Layers in a segment, by the rule: √(layers · input / layer), rounded up, at least 1.

    Args:
        layers: of the stack.
        input_bytes: what a segment holds.
        layer_bytes: what a layer saves, its input with it; without both, the rule as it is usually told.

    Raises:
        FieldError: a number is not a whole positive one.
    """
    for what, number in (("layers", layers), ("input_bytes", input_bytes), ("layer_bytes", layer_bytes)):
        require_whole(what, number, 1)
    whole = -(-layers * input_bytes // layer_bytes)
    root = isqrt(whole)
    return min(layers, root if root * root == whole else root + 1)


def uniform(layers: int, interval: int, *, keep_last: bool = False) -> Placement:
    """Segments of ``interval`` layers, the last with what remains.

    ``keep_last`` keeps the last segment, which takes as much either way: backward begins with it.

    Raises:
        FieldError: the interval is not between 1 and the number of layers.
    """
    require_whole("layers", layers, 1)
    require_whole("the interval", interval, 1)
    if interval > layers:
        raise FieldError(
            f"an interval of {interval} in a stack of {layers} layers", expected=f"at most {layers}"
        )
    return Placement(
        segments=tuple(
            Segment(
                start=start,
                stop=min(start + interval, layers),
                recomputed=not (keep_last and start + interval >= layers),
            )
            for start in range(0, layers, interval)
        )
    )


def kept(layers: int) -> Placement:
    """No checkpointing: every layer keeps what it saves."""
    return Placement(segments=(Segment(start=0, stop=layers, recomputed=False),))


def best_uniform(stack: Stack, budget: int | None = None) -> Placement | None:
    """The uniform interval with the least recomputation within ``budget`` bytes, then the lowest peak.

    All are tried: no checkpointing, and every interval with and without a kept last segment. Without a budget
    it is the lowest peak that counts, then the least recomputation. None if nothing fits.
    """
    if budget is not None:
        require_whole("the budget", budget)
    count = len(stack)
    tried = [kept(count)] + [
        uniform(count, interval, keep_last=last) for interval in range(1, count + 1) for last in (False, True)
    ]
    rated = [(peak(stack, item), recomputed(stack, item), item) for item in tried]
    if budget is None:
        return min(rated, key=lambda found: found[:2])[2]
    fitting = [found for found in rated if found[0] <= budget]
    return min(fitting, key=lambda found: (found[1], found[0]))[2] if fitting else None


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
