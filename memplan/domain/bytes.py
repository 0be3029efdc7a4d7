"""Amounts of memory: integers of bytes that know how to read and print themselves."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Self

_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_BY_LOWER = {unit.lower(): factor for unit, factor in _UNITS.items()}
_TEXT = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", re.ASCII)

LARGEST = 2**60
"""More than any machine holds (1 EiB); a larger amount is a slip of the keyboard."""


class Bytes(int):
    """A number of bytes. ``str`` is exact and parses back; ``rounded`` is for people."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"24GiB"``, ``"600 MB"`` or ``"512B"``.

        Raises:
            ValueError: there is no unit, the unit is unknown, the amount is not a whole
                number of bytes, or it is larger than 1 EiB.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not an amount of memory such as 24GiB or 600MB")
        number, unit = match.groups()
        if not unit:
            raise ValueError(f"{text!r} has no unit: write {number}GiB, {number}MiB or {number}B")
        factor = _BY_LOWER.get(unit.lower())
        if factor is None:
            raise ValueError(f"{unit!r} is not a unit of memory; use one of {', '.join(_UNITS)}")
        amount = Decimal(number.replace("_", "")) * factor
        if amount > LARGEST:
            raise ValueError(f"{text!r} is more than 1 EiB")
        if amount != int(amount):
            raise ValueError(f"{text!r} is not a whole number of bytes")
        return cls(int(amount))

    def __str__(self) -> str:
        """Exact text in the largest binary unit that needs at most three decimals."""
        magnitude = abs(int(self))
        sign = "-" if self < 0 else ""
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            factor = _UNITS[unit]
            if magnitude >= factor and magnitude * 1000 % factor == 0:
                return f"{sign}{_plain(Decimal(magnitude) / factor)}{unit}"
        return f"{sign}{magnitude}B"

    def __repr__(self) -> str:
        return f"Bytes({int(self)})"

    def rounded(self) -> str:
        """Three significant digits in the unit people expect: ``"3.91 GiB"``, ``"250 MiB"``."""
        magnitude = abs(int(self))
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            factor = _UNITS[unit]
            if magnitude >= factor:
                value = int(self) / factor
                return f"{value:.{_decimals(abs(value))}f} {unit}"
        return f"{int(self)} B"


NOTHING = Bytes(0)


def _decimals(value: float) -> int:
    return 2 if value < 10 else 1 if value < 100 else 0


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
