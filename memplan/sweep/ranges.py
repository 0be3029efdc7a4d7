"""Text such as ``1..64``, ``1..64:8`` or ``none,full`` into the values of an axis."""

from __future__ import annotations

import re
from collections.abc import Iterator

from memplan.domain.errors import FieldError
from memplan.sweep.grid import Setting

MOST_VALUES = 200
"""More values of one axis fit no table and no picture."""

EXPECTED = "NAME=1..64 (doubling), NAME=1..64:8 (in steps of 8), NAME=1,2,3 or NAME=word,word"
_RANGE = re.compile(r"([0-9][0-9_]*)\.\.([0-9][0-9_]*)(?::([0-9][0-9_]*))?", re.ASCII)
_NUMBER = re.compile(r"[0-9][0-9_]*", re.ASCII)
_OPENING, _CLOSING = "{[", "}]"
_LARGEST = 2**40


def split(text: str) -> tuple[str, str]:
    """``NAME=VALUES`` as its two halves.

    Raises:
        FieldError: one of them is missing.
    """
    name, _, values = text.partition("=")
    if not name.strip() or not values.strip():
        raise FieldError(f"--over {text}: names no values", expected=EXPECTED)
    return name.strip(), values.strip()


def settings(name: str, text: str) -> tuple[Setting, ...]:
    """The values of an axis, each once, in the order given.

    Raises:
        FieldError: a range runs backwards, starts at 0 without a step or has no end, or there are
            too many values.
    """
    found: dict[str, Setting] = {}
    for part in _parts(text):
        if not part:
            raise FieldError(f"--over {name}={text}: a value is missing", expected=EXPECTED)
        for item in _expanded(name, part):
            found[item.text] = item
        if len(found) > MOST_VALUES:
            raise _too_many(name, len(found))
    return tuple(found.values())


def _parts(text: str) -> Iterator[str]:
    """The text between commas, but for commas within braces."""
    depth, start = 0, 0
    for place, sign in enumerate(text):
        depth += (sign in _OPENING) - (sign in _CLOSING)
        if sign == "," and depth == 0:
            yield text[start:place].strip()
            start = place + 1
    yield text[start:].strip()


def _expanded(name: str, part: str) -> tuple[Setting, ...]:
    if ".." not in part:
        number = int(part) if _NUMBER.fullmatch(part) and len(part) < 20 else None
        return (Setting(text=str(number) if number is not None else part, number=number),)
    match = _RANGE.fullmatch(part)
    if match is None:
        raise FieldError(f"--over {name}={part}: is no range of whole numbers", expected=EXPECTED)
    low, high, step = (None if group is None else int(group) for group in match.groups())
    assert low is not None
    assert high is not None
    if low > high or high > _LARGEST:
        reason = "runs backwards" if low <= _LARGEST and low > high else "is beyond anything"
        raise FieldError(f"--over {name}={part}: {reason}", expected=EXPECTED)
    numbers = _doubling(name, part, low, high) if step is None else _stepping(name, part, low, high, step)
    return tuple(Setting(text=str(number), number=number) for number in numbers)


def _doubling(name: str, part: str, low: int, high: int) -> list[int]:
    if low == 0:
        raise FieldError(
            f"--over {name}={part}: nothing doubles from 0", expected=f"a step, such as {name}=0..{high}:1"
        )
    found = [low]
    while found[-1] * 2 <= high:
        found.append(found[-1] * 2)
    return found if found[-1] == high else [*found, high]


def _stepping(name: str, part: str, low: int, high: int, step: int) -> list[int]:
    if step == 0:
        raise FieldError(f"--over {name}={part}: steps of 0 lead nowhere", expected=EXPECTED)
    count = (high - low) // step + 1
    if count > MOST_VALUES:
        raise _too_many(name, count)
    found = list(range(low, high + 1, step))
    return found if found[-1] == high else [*found, high]


def _too_many(name: str, count: int) -> FieldError:
    return FieldError(f"--over {name}: {count:,} values", expected=f"at most {MOST_VALUES} of one axis")
