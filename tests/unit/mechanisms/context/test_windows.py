"""Where windows lie over a sequence."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.domain.errors import FieldError
from memplan.mechanisms.context import Windows


@st.composite
def windows(draw: st.DrawFn) -> Windows:
    """Windows of any width and stride over a sequence that they need not divide."""
    length = draw(st.integers(1, 200))
    width = draw(st.integers(1, length))
    return Windows(length=length, width=width, stride=draw(st.integers(1, width)))


@given(windows())
def test_every_token_is_in_a_window_and_every_window_is_as_wide_as_said(over: Windows) -> None:
    spans = list(over)
    assert len(spans) == len(over)
    assert {len(window) for window in spans} == {over.width}
    assert {token for window in spans for token in range(window.start, window.stop)} == set(
        range(over.length)
    )
    assert sum(map(len, spans)) == over.processed


@given(windows())
def test_windows_go_forward_by_the_stride_but_for_the_last(over: Windows) -> None:
    starts = [window.start for window in over]
    steps = [after - before for before, after in pairwise(starts)]
    assert all(step == over.step for step in steps[:-1])
    assert all(0 < step <= over.step for step in steps)


@given(windows())
def test_fresh_tokens_are_each_token_once(over: Windows) -> None:
    fresh = [token for window in over for token in range(window.fresh, window.stop)]
    assert fresh == list(range(over.length))


def test_a_tail_that_does_not_divide_is_a_whole_window_moved_back() -> None:
    assert [(window.start, window.stop) for window in Windows(length=10, width=4, stride=3)] == [
        (0, 4),
        (3, 7),
        (6, 10),
    ]
    assert [(window.start, window.stop) for window in Windows(length=11, width=4, stride=4)] == [
        (0, 4),
        (4, 8),
        (7, 11),
    ]


def test_half_overlapping_windows_of_4096_over_32768_tokens_are_fifteen_and_nearly_double_the_work() -> None:
    over = Windows(length=32768, width=4096, stride=2048)
    assert (len(over), over.overlap, over.processed) == (15, 2048, 61440)


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ({"length": 8, "width": 9}, "windows of 9 tokens over a sequence of 8"),
        ({"length": 8, "width": 4, "stride": 0}, "stride is 0"),
        ({"length": 8, "width": 4, "stride": -1}, "stride is -1"),
        ({"length": 8, "width": 4, "stride": 5}, "leaves 1 between"),
        ({"length": 0, "width": 0}, "length is 0"),
        ({"length": 8, "width": 0}, "width is 0"),
        ({"length": 8, "width": 2.5}, "width is 2.5"),
        ({"length": float("inf"), "width": 2}, "length is inf"),
        ({"length": 8, "width": True}, "width is True"),
    ],
)
def test_windows_that_cannot_be_are_refused(given_: dict[str, int], named: str) -> None:
    with pytest.raises(FieldError, match=named) as caught:
        Windows(**given_)
    assert caught.value.expected
