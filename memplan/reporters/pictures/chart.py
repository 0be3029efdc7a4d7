"""One value: memory as a curve between its bounds, on a scale of powers of two, and every GPU's limit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import ceil, floor, log2

from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Estimate
from memplan.reporters.pictures.frontier import crossings
from memplan.reporters.pictures.ink import CURVE, FAINT, GRID, SHEET, TEXT, breadth
from memplan.reporters.pictures.judged import judged
from memplan.reporters.pictures.legend import LEFT, colour, heading
from memplan.reporters.pictures.shapes import Area, Dot, Drawing, Line, Place, Shape, Text
from memplan.reporters.words import size, stride
from memplan.sweep.grid import Point, Sweep

WIDTH, HEIGHT, RIGHT = 720.0, 340.0, 40.0
MOST_TICKS, MOST_FIGURES = 8, 12
"""Lines of the scale, and points with their figure beside them, at the most."""

_Known = tuple[int, Estimate]
"""The number of a point and its estimate."""


def draw(sweep: Sweep, title: str) -> Drawing:
    """Words are points without a curve between them."""
    return _Chart(sweep, title).drawing()


class _Chart:
    def __init__(self, sweep: Sweep, title: str) -> None:
        self.sweep = sweep
        self.axis = sweep.axes[0]
        self.title = title
        shown = f"whole process on {sweep.targets[sweep.widest].name}" if sweep.targets else "reserved"
        self.head, self.top = heading(sweep, title, f"{sweep.memory}, {shown}, with its bounds", WIDTH)
        self.top += 14
        self.left, self.right = LEFT + 62, WIDTH - RIGHT
        self.bottom = self.top + HEIGHT
        self.known = [
            (number, point.estimates[sweep.widest])
            for number, point in enumerate(sweep.points)
            if point.estimates
        ]
        amounts = [max(int(edge), 1) for _, found in self.known for edge in _edges(found)]
        amounts += [int(target.limit) for target in sweep.targets]
        self.ticks = _ticks(min(amounts), max(amounts))
        self.low, self.high = log2(self.ticks[0]), log2(self.ticks[-1])

    def drawing(self) -> Drawing:
        """All of it, from the back to the front."""
        shapes = [*self.head, *self._scale(), *self._limits()]
        if self.axis.numeric:
            shapes += self._curve()
        shapes += [*self._dots(), *self._labels()]
        return Drawing(width=WIDTH, height=self.bottom + 58, title=self.title, shapes=tuple(shapes))

    def _down(self, amount: float) -> float:
        share = (log2(max(amount, 1)) - self.low) / (self.high - self.low)
        return self.bottom - max(share, 0) * (self.bottom - self.top)

    def _over(self, number: float) -> float:
        """Where a point lies across; fractions lie between points."""
        count = len(self.sweep.points)
        inner = self.right - self.left - 60
        return self.left + 30 + (inner / 2 if count == 1 else number * inner / (count - 1))

    def _scale(self) -> Iterator[Shape]:
        for amount in self.ticks:
            down = self._down(amount)
            yield Line(places=((self.left, down), (self.right, down)), colour=GRID)
            yield Text(place=(self.left - 8, down + 4), words=_tick(amount), anchor="end", colour=FAINT)

    def _limits(self) -> Iterator[Shape]:
        """A dashed line per GPU, up to where the curve surely stays below it a strong one."""
        for number, target in enumerate(self.sweep.targets):
            down = self._down(target.limit)
            whole = ((self.left, down), (self.right, down))
            yield Line(places=whole, colour=colour(number), width=1.5, dash=(6, 5))
            if not self.axis.numeric:
                continue
            sure, may = crossings(self.sweep.points, number)
            if sure > 0:
                yield Line(
                    places=((self.left, down), (self._end(sure), down)), colour=colour(number), width=3
                )
            if may > max(sure, 0):
                band = (max(self._end(sure), self.left), self._end(may))
                yield Area(places=_strip(*band, down), fill=colour(number), opacity=0.25)

    def _end(self, count: float) -> float:
        """Where a count of points ends: all of them reach the right edge, none of them the left one."""
        if count >= len(self.sweep.points):
            return self.right
        return self.left if count <= 0 else self._over(count - 1)

    def _curve(self) -> Iterator[Shape]:
        for (left, old), (right, new) in pairwise(self.known):
            if right == left + 1:
                yield Area(places=self._band((left, old), (right, new)), fill=CURVE, opacity=0.16)
                yield Line(places=(self._at(left, old), self._at(right, new)), colour=CURVE, width=2.5)

    def _band(self, left: _Known, right: _Known) -> tuple[Place, ...]:
        """The bounds between two neighbours, all round."""
        (first, old), (second, new) = left, right
        lows = [
            (self._over(first), self._down(old.least)),
            (self._over(second), self._down(new.least)),
        ]
        highs = [
            (self._over(first), self._down(old.most)),
            (self._over(second), self._down(new.most)),
        ]
        return (*lows, *reversed(highs))

    def _at(self, number: int, found: Estimate) -> Place:
        return self._over(number), self._down(found.needed)

    def _dots(self) -> Iterator[Shape]:
        for number, found in self.known:
            over = self._over(number)
            low, high = (self._down(edge) for edge in _edges(found))
            if low - high > 1:
                yield Line(places=((over, low), (over, high)), colour=CURVE, width=1.5)
            point = self.sweep.points[number]
            yield Dot(centre=self._at(number, found), radius=5, fill=CURVE, title=self._hover(point))
            if len(self.known) <= MOST_FIGURES:
                above = (over, high - 12 if low - high > 1 else self._at(number, found)[1] - 12)
                yield Text(place=above, words=size(found.needed), size=11, colour=TEXT, halo=SHEET)

    def _hover(self, point: Point) -> str:
        lines = [f"{self.axis.name} {point.settings[0].shown}", *map(judged, point.estimates)]
        return "\n".join(lines)

    def _labels(self) -> Iterator[Shape]:
        overs = [self._over(number) for number in range(len(self.sweep.points))]
        every = stride(overs, max(breadth(item.shown, 12) for item in self.axis.settings) + 8)
        for number, point in enumerate(self.sweep.points):
            if point.refused:
                yield Text(place=(overs[number], self.bottom - 8), words="refused", size=10, colour=FAINT)
            if number % every == 0:
                words, ink = point.settings[0].shown, FAINT if point.refused else TEXT
                yield Text(place=(overs[number], self.bottom + 18), words=words, colour=ink)
        middle = (self.left + self.right) / 2
        yield Text(place=(middle, self.bottom + 40), words=self.axis.name, size=13, colour=TEXT)


def _edges(found: Estimate) -> tuple[Bytes, Bytes]:
    return found.least, found.most


def _strip(left: float, right: float, down: float) -> tuple[Place, ...]:
    return ((left, down - 5), (right, down - 5), (right, down + 5), (left, down + 5))


def _ticks(least: int, most: int) -> list[int]:
    """Powers of two around the amounts; over few of them those and a half as well (16, 24, 32 GiB)."""
    low, high = floor(log2(least)), ceil(log2(most))
    if high - low > MOST_TICKS // 2:
        step = ceil((high - low) / MOST_TICKS)
        return [2**power for power in range(low, high + step, step)]
    found = [half for power in range(low, high + 1) for half in (2**power, 3 * 2**power // 2)]
    first = max(place for place, amount in enumerate(found) if amount <= least)
    last = next(place for place, amount in enumerate(found) if amount >= most and place > first)
    return found[first : last + 1]


def _tick(amount: int) -> str:
    number, _, unit = Bytes(amount).rounded().partition(" ")
    return f"{float(number):g} {unit}"
