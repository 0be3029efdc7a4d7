"""Two values: a cell for every combination, and for every GPU the line up to which they fit."""

from __future__ import annotations

from collections.abc import Iterator
from math import log2

from memplan.domain.estimate import Estimate
from memplan.domain.target import Target
from memplan.reporters.pictures.frontier import crossings
from memplan.reporters.pictures.ink import FAINT, GRID, SHEET, TEXT, breadth, on_shade, shade
from memplan.reporters.pictures.judged import judged
from memplan.reporters.pictures.legend import LEFT, colour, heading
from memplan.reporters.pictures.shapes import Area, Box, Drawing, Line, Place, Shape, Text
from memplan.sweep.boundary import line
from memplan.sweep.grid import Point, Sweep

NARROW, BROAD, GAP, STEEP = 64.0, 120.0, 2.0, 44.0
"""A cell's least and greatest width, the white between cells, and a cell's height, in pixels."""

SPREAD = 480.0
"""Pixels that few cells spread over."""

_GIB = 2**30


def draw(sweep: Sweep, title: str) -> Drawing:
    """The first axis upwards, the second to the right; of words and numbers, numbers go to the right."""
    return _Map(sweep, title).drawing()


class _Map:
    def __init__(self, sweep: Sweep, title: str) -> None:
        first, second = sweep.axes
        self.turned = first.numeric and not second.numeric
        self.sweep = sweep
        self.title = title
        self.up, self.across = (second, first) if self.turned else (first, second)
        labels = max(breadth(item.shown, 12) for item in self.up.settings)
        self.left = LEFT + 26 + labels + 10
        count = len(self.across.settings)
        heads = max(breadth(item.shown, 12) for item in self.across.settings) + 12
        self.cell = max(NARROW, heads, min(BROAD, SPREAD / count))
        about = f"{sweep.memory} in GiB, reserved, without a context"
        if sweep.targets:
            about = f"GiB of {sweep.memory}, whole process on {self._shown.name}"
        if sweep.targets and self.across.numeric:
            about += "; left of its line a run fits a GPU, in the shade beyond it may"
        words = max(breadth(title, 18), breadth(about, 12))
        self.width = max(self.left + self.cell * count, LEFT + words) + 28
        self.head, self.top = heading(sweep, title, about, self.width)
        self.bottom = self.top + STEEP * len(self.up.settings)
        amounts = [found.needed for found in map(self._estimate, sweep.points) if found]
        self.low, self.high = log2(max(min(amounts), 1)), log2(max(max(amounts), 2))

    @property
    def _shown(self) -> Target:
        return self.sweep.targets[self.sweep.widest]

    def drawing(self) -> Drawing:
        """All of it: cells, bands, lines, then words, so that words stay legible."""
        shapes = [*self.head, *self._cells()]
        for number in range(len(self.sweep.targets)):
            shapes += self._frontier(number)
        shapes += [*self._figures(), *self._labels()]
        return Drawing(width=self.width, height=self.bottom + 62, title=self.title, shapes=tuple(shapes))

    def _estimate(self, point: Point) -> Estimate | None:
        return point.estimates[self.sweep.widest] if point.estimates else None

    def _grid(self) -> Iterator[tuple[float, float, Point]]:
        """Left and upper edge of every cell with its point."""
        for down, row in enumerate(reversed(self.up.settings)):
            for over, column in enumerate(self.across.settings):
                chosen = (column, row) if self.turned else (row, column)
                yield self.left + over * self.cell, self.top + down * STEEP, self.sweep.at(chosen)

    def _share(self, amount: int) -> float:
        return (log2(max(amount, 1)) - self.low) / (self.high - self.low) if self.high > self.low else 0.5

    def _cells(self) -> Iterator[Shape]:
        for left, top, point in self._grid():
            found = self._estimate(point)
            yield Box(
                left=left + GAP / 2,
                top=top + GAP / 2,
                width=self.cell - GAP,
                height=STEEP - GAP,
                fill=shade(self._share(found.needed)) if found else GRID,
                title=self._hover(point),
            )

    def _hover(self, point: Point) -> str:
        chosen = zip(self.sweep.axes, point.settings, strict=True)
        lines = [", ".join(f"{axis.name} {item.shown}" for axis, item in chosen)]
        lines += [judged(found) for found in point.estimates]
        return "\n".join([*lines, f"refused: {point.refused}"] if point.refused else lines)

    def _figures(self) -> Iterator[Shape]:
        for left, top, point in self._grid():
            found = self._estimate(point)
            share = self._share(found.needed) if found else 0
            yield Text(
                place=(left + self.cell / 2, top + STEEP / 2 + 4.5),
                words=_figure(found.needed) if found else "refused",
                size=13 if found else 10,
                colour=on_shade(share) if found else FAINT,
                halo=shade(share) if found else GRID,
            )

    def _labels(self) -> Iterator[Shape]:
        for place, item in enumerate(reversed(self.up.settings)):
            down = self.top + (place + 0.5) * STEEP + 4
            yield Text(place=(self.left - 8, down), words=item.shown, anchor="end")
        for place, item in enumerate(self.across.settings):
            yield Text(place=(self.left + (place + 0.5) * self.cell, self.bottom + 18), words=item.shown)
        middle = self.left + self.cell * len(self.across.settings) / 2
        yield Text(place=(middle, self.bottom + 42), words=self.across.name, size=13, colour=TEXT)
        aside = (LEFT + 8, (self.top + self.bottom) / 2)
        yield Text(place=aside, words=self.up.name, size=13, colour=TEXT, turned=True)

    def _frontier(self, target: int) -> Iterator[Shape]:
        """The band between surely fitting and surely not, and the line where it begins."""
        if not self.across.numeric:
            return
        rows = [line(self.sweep, self.across, (row,)) for row in self.up.settings]
        both = [crossings(points, target) for points in rows]
        sure, may = ([pair[side] for pair in both] for side in (0, 1))
        inner, outer = self._through(sure), self._through(may)
        yield Area(places=(*inner, *reversed(outer)), fill=colour(target), opacity=0.22)
        yield Line(places=inner, colour=SHEET, width=5)
        yield Line(places=inner, colour=colour(target), width=3)

    def _through(self, counts: list[float]) -> tuple[Place, ...]:
        """Places of crossings from the lower edge to the upper one; rows of words have no between."""
        places: list[Place] = []
        for row, count in enumerate(counts):
            over, floor = self._across(count), self.bottom - row * STEEP
            middle = (over, floor - STEEP / 2)
            places += [middle] if self.up.numeric else [(over, floor), (over, floor - STEEP)]
        return ((places[0][0], self.bottom), *places, (places[-1][0], self.top))

    def _across(self, count: float) -> float:
        """Where a count of points lies: points are in the middle of cells, nothing and all at the edges."""
        last = len(self.across.settings)
        inside = 0.0 if count <= 0 else last if count >= last else count - 0.5
        return self.left + inside * self.cell


def _figure(amount: int) -> str:
    """``0.74``, ``7.7``, ``37``, ``1,331``: what has room in a cell."""
    value = amount / _GIB
    return f"{value:,.{2 if value < 1 else 1 if value < 100 else 0}f}"
