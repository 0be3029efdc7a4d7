"""What the values of ``--over`` may look like, and what is said of those that may not."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.domain.errors import FieldError
from memplan.sweep.ranges import MOST_VALUES, settings, split


def values(text: str) -> list[str]:
    return [item.text for item in settings("n", text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1..64", ["1", "2", "4", "8", "16", "32", "64"]),
        ("512..3000", ["512", "1024", "2048", "3000"]),
        ("3..20", ["3", "6", "12", "20"]),
        ("1..10:4", ["1", "5", "9", "10"]),
        ("0..8:4", ["0", "4", "8"]),
        ("7..7", ["7"]),
        ("1,2,3", ["1", "2", "3"]),
        ("1_024", ["1024"]),
        ("1,4..16,64", ["1", "4", "8", "16", "64"]),
        ("2,2,1..2", ["2", "1"]),
        ("none,full", ["none", "full"]),
        ("none, {every: 2}, full", ["none", "{every: 2}", "full"]),
        ("cross_entropy,{chunked: 16}", ["cross_entropy", "{chunked: 16}"]),
        ("[q_proj, v_proj],[q_proj]", ["[q_proj, v_proj]", "[q_proj]"]),
    ],
)
def test_ranges_double_or_step_and_lists_are_taken_as_they_are(text: str, expected: list[str]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("64..1", "runs backwards"),
        ("0..8", "nothing doubles from 0"),
        ("1..8:0", "lead nowhere"),
        ("1..", "is no range of whole numbers"),
        ("..8", "is no range of whole numbers"),
        ("1..2..3", "is no range of whole numbers"),
        ("a..b", "is no range of whole numbers"),
        ("1.5..3", "is no range of whole numbers"),
        ("1,,2", "a value is missing"),
        ("1,", "a value is missing"),
        ("1..100000:1", "100,000 values"),
        ("1..99999999999999999999", "is beyond anything"),
    ],
)
def test_what_is_no_range_is_refused_with_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(FieldError, match=said) as caught:
        settings("n", text)
    assert caught.value.expected


@pytest.mark.parametrize("text", ["", "n", "n=", "=1..2", " = "])
def test_an_axis_needs_a_name_and_values(text: str) -> None:
    with pytest.raises(FieldError, match="names no values"):
        split(text)


@given(st.integers(1, 2**20), st.integers(1, 2**20))
def test_doubling_holds_both_ends_and_grows(a: int, b: int) -> None:
    low, high = sorted((a, b))
    numbers = [int(text) for text in values(f"{low}..{high}")]
    assert numbers[0] == low
    assert numbers[-1] == high
    assert numbers == sorted(set(numbers))
    assert all(after <= 2 * before for before, after in pairwise(numbers))


@given(st.text(max_size=30))
def test_any_text_is_settings_or_a_refusal(text: str) -> None:
    try:
        found = settings("n", text)
    except FieldError:
        return
    assert 1 <= len(found) <= MOST_VALUES
    assert len({item.text for item in found}) == len(found)
