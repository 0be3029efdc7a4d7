"""A report before it has a form: headings, paragraphs, lists and tables, in order.

What a report says is decided once, in ``views``; how it looks is decided once per output, in
``terminal`` and ``markdown``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Tone(StrEnum):
    """What a line means, for outputs that have colours."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    CAUTION = "caution"


@dataclass(frozen=True, slots=True)
class Heading:
    """The line a report or a part of it starts with."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One or more lines of prose."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list under an optional title."""

    items: tuple[str, ...]
    title: str = ""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text that must not be wrapped or decorated, such as a diff."""

    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing made of characters: lines of runs, each with what it means."""

    lines: tuple[tuple[tuple[str, Tone], ...], ...]

    @property
    def text(self) -> str:
        """The drawing without colours."""
        return "\n".join("".join(run for run, _ in line).rstrip() for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells. ``align`` has one ``<`` or ``>`` per column; ``strong`` are the rows that are totals."""

    columns: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        widths = {len(self.columns), len(self.align), *(len(row) for row in self.rows)}
        if len(widths) != 1:
            raise ValueError(f"rows of different lengths: {sorted(widths)}")

    def widths(self) -> list[int]:
        """Characters the widest cell of each column needs."""
        return [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]

    def padded(self, row: Sequence[str]) -> list[str]:
        """The cells of a row, filled up to their columns' widths."""
        cells = zip(row, self.align, self.widths(), strict=True)
        return [f"{cell:{align}{width}}" for cell, align, width in cells]


Block = Heading | Paragraph | Bullets | Verbatim | Picture | Table
"""Everything a report is made of."""

Report = tuple[Block, ...]
"""A whole report."""
