"""The heading of a picture: its title, what it is of, and the GPUs by colour."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.reporters.pictures.ink import FAINT, GPUS, TEXT, breadth
from memplan.reporters.pictures.shapes import Line, Shape, Text
from memplan.reporters.words import size
from memplan.sweep.grid import Sweep

LEFT, TOP = 24.0, 32.0
_ROW = 20.0


def colour(number: int) -> str:
    """The colour of a GPU."""
    return GPUS[number % len(GPUS)]


def heading(sweep: Sweep, title: str, about: str, width: float) -> tuple[list[Shape], float]:
    """The shapes of the heading, and how far down they reach."""
    shapes: list[Shape] = [
        Text(place=(LEFT, TOP), words=title, size=17, colour=TEXT, anchor="start", bold=True),
        Text(place=(LEFT, TOP + 21), words=about, size=12, colour=FAINT, anchor="start"),
    ]
    entries = list(_entries(sweep, width))
    for row, across, number, words in entries:
        down = TOP + 46 + row * _ROW
        line = Line(places=((across, down - 4), (across + 22, down - 4)), colour=colour(number), width=3)
        shapes += [line, Text(place=(across + 28, down), words=words, anchor="start")]
    rows = entries[-1][0] + 1 if entries else 0
    return shapes, TOP + 34 + rows * _ROW


def _entries(sweep: Sweep, width: float) -> Iterator[tuple[int, float, int, str]]:
    """Row, left edge, number and words of every GPU, as many to a row as there is room for."""
    row, across = 0, LEFT
    for number, target in enumerate(sweep.targets):
        words = f"{target.name}, {size(target.limit)}"
        room = 28 + breadth(words, 12) + 24
        if across > LEFT and across + room > width:
            row, across = row + 1, LEFT
        yield row, across, number, words
        across += room
