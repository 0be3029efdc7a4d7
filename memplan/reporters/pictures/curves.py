"""Several curves in one picture: what was predicted as lines, what was measured as dots on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError
from memplan.reporters.pictures.ink import FAINT, GRID, SHEET, TEXT, breadth
from memplan.reporters.pictures.legend import LEFT, TOP, colour
from memplan.reporters.pictures.scale import scale
from memplan.reporters.pictures.shapes import Area, Dot, Drawing, Line, Place, Shape, Text
from memplan.reporters.words import stride

WIDTH, HEIGHT, RIGHT, GUTTER = 720.0, 320.0, 28.0, 84.0
_ROW = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A named row of points: what lies across, and bytes. ``measured`` ones are dots, others a line.

    A measured curve takes the colour of the curve that ``like`` names.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    measured: bool = False
    like: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A dashed line across at so many bytes, with its name."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Curves over a common scale; ``doubling`` axes go in powers of two, others from 0 in equal steps."""

    title: str
    about: str
    across: str
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()
    doubling: bool = True
    doubling_bytes: bool = True


def draw(figure: Figure) -> Drawing:
    """The figure as shapes.

    Raises:
        InputError: there is no point, or one that an axis in powers of two cannot show.
    """
    points = [point for curve in figure.curves for point in curve.points]
    if not points:
        raise InputError(f"nothing to draw: {figure.title}", expected="at least one point")
    least = min(min(over if figure.doubling else 1.0 for over, _ in points), min(down for _, down in points))
    if least <= 0 and (figure.doubling or figure.doubling_bytes):
        raise InputError(f"{least:g} on an axis of powers of two: {figure.title}", expected="more than 0")
    return _Picture(figure, points).drawing()


class _Picture:
    def __init__(self, figure: Figure, points: list[tuple[float, float]]) -> None:
        self.figure = figure
        self.head, self.top = self._heading()
        self.left, self.right, self.bottom = LEFT + GUTTER, WIDTH - RIGHT, self.top + HEIGHT
        self.across = scale(
            [over for over, _ in points],
            self.left + 14,
            self.right - 14,
            doubling=figure.doubling,
            binary=False,
        )
        amounts = [down for _, down in points] + [float(mark.bytes) for mark in figure.marks]
        self.down = scale(amounts, self.bottom, self.top, doubling=figure.doubling_bytes, binary=True)

    def drawing(self) -> Drawing:
        """All of it, from the back to the front."""
        shapes = [*self.head, *self._grid(), *self._marks()]
        for curve in self.figure.curves:
            shapes += self._dots(curve) if curve.measured else self._line(curve)
        return Drawing(width=WIDTH, height=self.bottom + 58, title=self.figure.title, shapes=tuple(shapes))

    def _colour(self, curve: Curve) -> str:
        named = [item.name for item in self.figure.curves if item.like is None]
        return colour(named.index(curve.like or curve.name))

    def _heading(self) -> tuple[list[Shape], float]:
        figure = self.figure
        shapes: list[Shape] = [
            Text(place=(LEFT, TOP), words=figure.title, size=17, colour=TEXT, anchor="start", bold=True)
        ]
        down = TOP
        for line in _wrapped(figure.about, WIDTH - LEFT - RIGHT):
            down += _ROW
            shapes.append(Text(place=(LEFT, down), words=line, size=12, colour=FAINT, anchor="start"))
        down, over = down + 26, LEFT
        for curve in figure.curves:
            room = 28 + breadth(curve.name, 12) + 24
            if over > LEFT and over + room > WIDTH - RIGHT:
                down, over = down + _ROW, LEFT
            shapes += self._key(curve, over, down - 4)
            shapes.append(Text(place=(over + 28, down), words=curve.name, anchor="start"))
            over += room
        return shapes, down + 26

    def _key(self, curve: Curve, over: float, down: float) -> Iterator[Shape]:
        if curve.measured:
            yield Dot(centre=(over + 11, down), radius=5, fill=self._colour(curve))
        else:
            yield Line(places=((over, down), (over + 22, down)), colour=self._colour(curve), width=3)

    def _grid(self) -> Iterator[Shape]:
        for amount in self.down.ticks:
            down = self.down.at(amount)
            yield Line(places=((self.left, down), (self.right, down)), colour=GRID)
            yield Text(place=(self.left - 8, down + 4), words=_amount(amount), anchor="end", colour=FAINT)
        overs = [self.across.at(tick) for tick in self.across.ticks]
        words = [f"{tick:,.10g}" for tick in self.across.ticks]
        every = stride(overs, max(breadth(item, 12) for item in words) + 8)
        for number, (over, word) in enumerate(zip(overs, words, strict=True)):
            if number % every == 0:
                yield Text(place=(over, self.bottom + 18), words=word, colour=TEXT)
        middle = (self.left + self.right) / 2
        yield Text(place=(middle, self.bottom + 40), words=self.figure.across, size=13, colour=TEXT)

    def _marks(self) -> Iterator[Shape]:
        for mark in self.figure.marks:
            down = self.down.at(mark.bytes)
            yield Line(places=((self.left, down), (self.right, down)), colour=FAINT, width=1.5, dash=(6, 5))
            on_right = self._room(down, right=True) >= self._room(down, right=False)
            place = (self.right if on_right else self.left + 4, down - 6)
            anchor = "end" if on_right else "start"
            yield Text(place=place, words=mark.name, anchor=anchor, colour=FAINT, halo=SHEET)

    def _room(self, down: float, *, right: bool) -> float:
        """Pixels between a mark's name, at one of its ends, and the nearest point of that third."""
        third = (self.right - self.left) / 3
        places = [self._at(point) for curve in self.figure.curves for point in curve.points]
        near = [
            at for over, at in places if (over > self.right - third if right else over < self.left + third)
        ]
        return min((abs(at - down + 10) for at in near), default=HEIGHT)

    def _at(self, point: tuple[float, float]) -> Place:
        return self.across.at(point[0]), self.down.at(point[1])

    def _line(self, curve: Curve) -> Iterator[Shape]:
        ink = self._colour(curve)
        for before, after in pairwise(curve.points):
            yield Line(places=(self._at(before), self._at(after)), colour=ink, width=2.5)
        for point in curve.points:
            # A square where the line bends: curves are told apart from the dots of what was measured.
            over, down = self._at(point)
            corners = ((over - 2, down - 2), (over + 2, down - 2), (over + 2, down + 2), (over - 2, down + 2))
            yield Area(places=corners, fill=ink)

    def _dots(self, curve: Curve) -> Iterator[Shape]:
        for point in curve.points:
            title = f"{curve.name}\n{self.figure.across} {point[0]:,.10g}: {_amount(point[1])}"
            yield Dot(centre=self._at(point), radius=5, fill=self._colour(curve), title=title)


def _wrapped(words: str, room: float) -> Iterator[str]:
    """Lines of words that have so many pixels."""
    line = ""
    for word in words.split():
        longer = f"{line} {word}".strip()
        if line and breadth(longer, 12) > room:
            yield line
            longer = word
        line = longer
    yield line


def _amount(amount: float) -> str:
    number, _, unit = Bytes(round(amount)).rounded().partition(" ")
    return f"{float(number.replace(',', '')):g} {unit}"
