"""Where to checkpoint: rules, uniform intervals and the best placement, against all there are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.errors import FieldError
from memplan.mechanisms.context import (
    Layer,
    Placement,
    Segment,
    Stack,
    best_uniform,
    cheapest,
    lowest_peak,
    sqrt_interval,
)
from memplan.mechanisms.context.intervals import kept, uniform
from memplan.mechanisms.context.placement import peak, recomputed

sizes = st.integers(0, 20)


@st.composite
def stacks(draw: st.DrawFn, most: int = 6) -> Stack:
    """Stacks of layers of any figures; a layer's own passes see at least what it saves."""
    layers = []
    for _ in range(draw(st.integers(1, most))):
        saved = draw(sizes)
        layers.append(
            Layer(
                input=draw(sizes),
                saved=saved,
                forward=saved + draw(sizes),
                backward=saved + draw(sizes),
                gradients=draw(st.integers(0, 5)),
                recompute=draw(st.integers(1, 4)),
            )
        )
    return Stack(layers=tuple(layers), output=draw(sizes), head=draw(sizes), state=draw(st.integers(0, 3)))


def placements(layers: int) -> Iterator[Placement]:
    """All there are: where segments end, and which of them run again."""
    for ends in product((False, True), repeat=layers - 1):
        cuts = [0, *(place for place, end in enumerate(ends, 1) if end), layers]
        spans = list(pairwise(cuts))
        for again in product((False, True), repeat=len(spans)):
            yield Placement(
                segments=tuple(
                    Segment(start=start, stop=stop, recomputed=run)
                    for (start, stop), run in zip(spans, again, strict=True)
                )
            )


@settings(deadline=None, max_examples=60)
@given(stacks(), st.integers(0, 200))
def test_the_cheapest_placement_is_the_cheapest_of_all(stack: Stack, budget: int) -> None:
    fitting = [item for item in placements(len(stack)) if peak(stack, item) <= budget]
    found = cheapest(stack, budget)
    if not fitting:
        assert found is None
        return
    assert found is not None
    assert peak(stack, found) <= budget
    assert recomputed(stack, found) == min(recomputed(stack, item) for item in fitting)


@settings(deadline=None, max_examples=60)
@given(stacks())
def test_the_lowest_peak_is_the_lowest_of_all(stack: Stack) -> None:
    lowest = lowest_peak(stack)
    assert lowest == min(peak(stack, item) for item in placements(len(stack)))
    assert cheapest(stack, lowest) is not None
    assert lowest == 0 or cheapest(stack, lowest - 1) is None


@settings(deadline=None, max_examples=60)
@given(stacks(10), st.integers(0, 300))
def test_a_uniform_interval_is_never_better_than_the_best_placement(stack: Stack, budget: int) -> None:
    within = best_uniform(stack, budget)
    best = cheapest(stack, budget)
    if within is not None:
        assert best is not None
        assert peak(stack, within) <= budget
        assert recomputed(stack, best) <= recomputed(stack, within)
    least = best_uniform(stack)
    assert least is not None
    assert lowest_peak(stack) <= peak(stack, least)


@given(stacks(10), st.integers(0, 300), st.integers(0, 50))
def test_a_larger_budget_never_costs_more(stack: Stack, budget: int, more: int) -> None:
    small, large = cheapest(stack, budget), cheapest(stack, budget + more)
    if small is not None:
        assert large is not None
        assert recomputed(stack, large) <= recomputed(stack, small)


def even(layers: int, *, saved: int) -> Stack:
    """Layers alike whose input is one unit, with nothing but what they save."""
    return Stack(layers=(Layer(input=1, saved=saved, forward=saved, backward=saved),) * layers)


def test_the_rule_is_the_optimum_where_a_layer_saves_its_input_alone() -> None:
    stack = even(100, saved=0)
    peaks = {interval: peak(stack, uniform(100, interval)) for interval in range(1, 101)}
    assert sqrt_interval(100) == min(peaks, key=lambda interval: peaks[interval]) == 10
    assert (peaks[10], peaks[1], peaks[100]) == (19, 100, 100)


def test_the_rule_takes_twice_the_memory_of_single_layers_where_blocks_save_fifteen_inputs() -> None:
    """A transformer block: the rule as it is told forgets that a block saves far more than its input."""
    stack = even(32, saved=15)
    peaks = {interval: peak(stack, uniform(32, interval)) for interval in range(1, 33)}
    assert min(peaks, key=lambda interval: peaks[interval]) == 1
    assert (peaks[1], peaks[sqrt_interval(32)]) == (47, 101)
    assert sqrt_interval(32, input_bytes=1, layer_bytes=16) == 2
    assert (peaks[2], peaks[32]) == (47, 512)


def test_a_placement_recomputes_only_what_the_budget_asks_for() -> None:
    stack = even(12, saved=15)
    whole = peak(stack, kept(12))
    costs = []
    for budget in range(lowest_peak(stack), whole + 1):
        found = cheapest(stack, budget)
        assert found is not None
        costs.append(recomputed(stack, found))
    assert costs == sorted(costs, reverse=True)
    assert (costs[0], costs[-1]) == (11, 0)
    half = cheapest(stack, whole // 2)
    assert half is not None
    assert recomputed(stack, half) == 7


def test_uneven_segments_are_shorter_towards_the_end() -> None:
    """While the first segment runs again no other holds anything, and while the last does all of them do."""
    stack = even(60, saved=0)
    lengths = [len(item) for item in _placed(stack, lowest_peak(stack)).segments if item.recomputed]
    assert lengths == sorted(lengths, reverse=True)
    assert lowest_peak(stack) < min(peak(stack, uniform(60, interval)) for interval in range(1, 61))


def _placed(stack: Stack, budget: int) -> Placement:
    found = cheapest(stack, budget)
    assert found is not None
    return found


def test_a_hundred_layers_with_real_sizes_are_placed() -> None:
    block = Layer(input=2**24, saved=15 * 2**24, forward=17 * 2**24, backward=20 * 2**24, recompute=10**12)
    stack = Stack(layers=(block,) * 100, output=2**24, head=2**28)
    budget = 2**34
    found = cheapest(stack, budget)
    assert found is not None
    assert peak(stack, found) <= budget
    assert recomputed(stack, found) < 60 * 10**12


@pytest.mark.parametrize(
    ("layers", "interval", "named"),
    [
        (8, 0, "interval is 0"),
        (8, 9, "an interval of 9 in a stack of 8"),
        (0, 1, "layers is 0"),
        (8, 1.5, "1.5"),
    ],
)
def test_intervals_that_cannot_be_are_refused(layers: int, interval: int, named: str) -> None:
    with pytest.raises(FieldError, match=named):
        uniform(layers, interval)


@pytest.mark.parametrize("budget", [-1, float("inf"), float("nan"), "8GiB", True])
def test_budgets_that_are_no_bytes_are_refused(budget: int) -> None:
    with pytest.raises(FieldError, match="the budget"):
        cheapest(even(3, saved=1), budget)
    with pytest.raises(FieldError, match="the budget"):
        best_uniform(even(3, saved=1), budget)


def test_layers_and_stacks_that_cannot_be_are_refused() -> None:
    with pytest.raises(FieldError, match="a layer's saved is -1"):
        Layer(input=1, saved=-1)
    with pytest.raises(FieldError, match="without layers"):
        Stack(layers=())
    with pytest.raises(FieldError, match="a stack's head"):
        Stack(layers=(Layer(input=1, saved=1),), head=-1)
    with pytest.raises(FieldError, match="from layer 2 to 3, after 1 layers"):
        Placement(segments=(Segment(start=0, stop=1), Segment(start=2, stop=3)))
    with pytest.raises(FieldError, match="a placement of 2 layers for a stack of 3"):
        peak(even(3, saved=1), kept(2))


def test_a_name_says_the_lengths_of_segments_and_which_are_kept() -> None:
    assert uniform(7, 3).name == "3+3+1"
    assert uniform(7, 3, keep_last=True).name == "3+3+1 kept"
    assert kept(4).name == "4 kept"
