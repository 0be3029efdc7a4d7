"""One value: GPU memory as a curve on a scale of powers of two, with a line at every GPU's limit."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, floor, log2

from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Verdict
from memplan.reporters.blocks import Picture, Tone
from memplan.reporters.sketches import Signs
from memplan.reporters.words import stride
from memplan.sweep.grid import Point, Sweep

HEIGHT = 14
_TONES = {Verdict.FITS: Tone.GOOD, Verdict.DOES_NOT_FIT: Tone.BAD, Verdict.UNDECIDED: Tone.CAUTION}

Cell = tuple[str, Tone]


class _Canvas:
    """Rows of characters, the lowest amount at the bottom."""

    def __init__(self, width: int, low: float, high: float) -> None:
        self.rows: list[list[Cell]] = [[(" ", Tone.PLAIN)] * width for _ in range(HEIGHT)]
        self.low, self.high = low, high

    def row(self, amount: float) -> int:
        """The row of an amount in bytes, 0 at the top."""
        share = (log2(amount) - self.low) / (self.high - self.low)
        return HEIGHT - 1 - min(HEIGHT - 1, max(0, round(share * (HEIGHT - 1))))

    def put(self, row: int, column: int, sign: str, tone: Tone = Tone.PLAIN) -> None:
        """Write one character."""
        self.rows[row][column] = (sign, tone)


def draw(sweep: Sweep, width: int, signs: Signs) -> Picture:
    """The curve of the GPU with most memory; a point's colour is its verdict there."""
    amounts = [max(point.estimates[sweep.widest].needed, 1) for point in sweep.points if point.estimates]
    limits = [int(target.limit) for target in sweep.targets]
    low, high = floor(log2(min(amounts + limits))), ceil(log2(max(amounts + limits)))
    labels = max(len(target.name) for target in sweep.targets) + 1 if sweep.targets else 0
    inner = width - 12 - labels
    canvas = _Canvas(inner, low, max(high, low + 1))
    for limit in limits:
        for column in range(inner):
            canvas.put(canvas.row(limit), column, signs.limit)
    places = _places(len(sweep.points), inner)
    _path(canvas, sweep, places, signs)
    for point, place in zip(sweep.points, places, strict=True):
        if point.estimates:
            found = point.estimates[sweep.widest]
            tone = _TONES[found.verdict] if found.verdict else Tone.PLAIN
            canvas.put(canvas.row(max(found.needed, 1)), place, signs.point, tone)
    return Picture((*_framed(canvas, sweep, signs), *_foot(sweep, places, inner, signs)))


def _places(count: int, inner: int) -> list[int]:
    """Columns of the points, evenly spread."""
    return [inner // 2] if count == 1 else [2 + place * (inner - 6) // (count - 1) for place in range(count)]


def _path(canvas: _Canvas, sweep: Sweep, places: list[int], signs: Signs) -> None:
    """Dots between neighbours, straight on the scale; words have no order, and get columns of dots."""
    known = [(place, point) for place, point in zip(places, sweep.points, strict=True) if point.estimates]
    if not sweep.axes[0].numeric:
        for column, point in known:
            for row in range(canvas.row(2 ** _height(sweep, point)), HEIGHT):
                canvas.put(row, column, signs.path)
        return
    for (left, old), (right, new) in pairwise(known):
        start, end = _height(sweep, old), _height(sweep, new)
        for column in range(left + 1, right):
            share = (column - left) / (right - left)
            canvas.put(canvas.row(2 ** (start + share * (end - start))), column, signs.path)


def _height(sweep: Sweep, point: Point) -> float:
    return log2(max(point.estimates[sweep.widest].needed, 1))


def _framed(canvas: _Canvas, sweep: Sweep, signs: Signs) -> list[tuple[Cell, ...]]:
    """The rows with amounts on the left and names of GPUs on the right."""
    step = max(1, ceil((canvas.high - canvas.low) / 7))
    exponents = range(int(canvas.low), int(canvas.high) + 1, step)
    ticks = {canvas.row(2.0**power): Bytes(2**power).rounded() for power in exponents}
    names: dict[int, str] = {}
    for target in sweep.targets:
        row = canvas.row(target.limit)
        names[row] = f"{names[row]}, {target.name}" if row in names else f" {target.name}"
    return [
        (
            (f"{_short(ticks.get(number, '')):>9} {signs.side}", Tone.PLAIN),
            *cells,
            (names.get(number, ""), Tone.PLAIN),
        )
        for number, cells in enumerate(canvas.rows)
    ]


def _short(label: str) -> str:
    """``32.0 GiB`` as ``32 GiB``: ticks are powers of two."""
    number, _, unit = label.partition(" ")
    return f"{float(number):g} {unit}" if label else ""


def _foot(sweep: Sweep, places: list[int], inner: int, signs: Signs) -> list[tuple[Cell, ...]]:
    """The lower edge, values under their points as far as there is room, and what they are."""
    written = ""
    shown = [item.shown for item in sweep.axes[0].settings]
    every = stride([float(place) for place in places], max(map(len, shown)) + 1)
    for place, words in list(zip(places, shown, strict=True))[::every]:
        start = max(0, place - len(words) // 2)
        if start + len(words) <= inner + 8:
            written = f"{written:<{start}}{words}"
    edge = " " * 10 + signs.corner + signs.bottom * inner
    name = sweep.axes[0].name
    return [
        ((line, Tone.PLAIN),) for line in (edge, " " * 11 + written, " " * 11 + f"{name:^{inner}}".rstrip())
    ]
