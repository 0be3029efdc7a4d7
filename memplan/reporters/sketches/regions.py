"""Two values: a map of the smallest GPU that each combination fits."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.estimate import Verdict
from memplan.reporters.blocks import Picture, Tone
from memplan.reporters.sketches import Signs
from memplan.sweep.grid import Point, Sweep

UNDECIDED, REFUSED = "?", " "
_TONES = (Tone.GOOD, Tone.CAUTION, Tone.PLAIN, Tone.PLAIN)

Cell = tuple[str, Tone]


def draw(sweep: Sweep, width: int, signs: Signs) -> Picture:
    """The first axis upwards, the second to the right; of more GPUs than there are signs, the larger ones."""
    up, across = sweep.axes
    ranked = sorted(range(len(sweep.targets)), key=lambda number: sweep.targets[number].limit)
    ranked = ranked[-len(signs.fills) :]
    labels = max(len(item.shown) for item in up.settings)
    room = max(1, (width - labels - 4) // len(across.settings))
    cell = min(max(max(len(item.shown) for item in across.settings) + 1, 3), max(room, 2), 9)
    lines: list[tuple[Cell, ...]] = [((f"{up.name:>{labels}}", Tone.PLAIN),)]
    for row in reversed(up.settings):
        cells = [_cell(sweep.at((row, column)), ranked, signs) for column in across.settings]
        drawn = (((sign * (cell - 1)).ljust(cell), tone) for sign, tone in cells)
        lines.append(((f"{row.shown:>{labels}} {signs.side} ", Tone.PLAIN), *drawn))
    lines.append(
        ((" " * labels + f" {signs.corner}" + signs.bottom * (cell * len(across.settings) + 1), Tone.PLAIN),)
    )
    heads = "".join(_head(item.shown, cell) for item in across.settings)
    lines.append(((" " * (labels + 3) + heads + f" {across.name}", Tone.PLAIN),))
    lines.append(tuple(_legend(sweep, ranked, signs, labels)))
    return Picture(tuple(lines))


def _head(text: str, cell: int) -> str:
    """A value over its column; a dot stands for the end of one that is too long."""
    return (text if len(text) < cell else f"{text[: max(cell - 2, 1)]}.").ljust(cell)[:cell]


def _cell(point: Point, ranked: list[int], signs: Signs) -> Cell:
    if not point.estimates:
        return REFUSED, Tone.PLAIN
    for place, number in enumerate(ranked):
        if point.verdict(number) is Verdict.FITS:
            return signs.fills[place], _TONES[place]
    undecided = any(point.verdict(number) is Verdict.UNDECIDED for number in ranked)
    return (UNDECIDED, Tone.CAUTION) if undecided else (signs.nothing, Tone.BAD)


def _legend(sweep: Sweep, ranked: list[int], signs: Signs, indent: int) -> Iterator[Cell]:
    yield " " * (indent + 3), Tone.PLAIN
    for place, number in enumerate(ranked):
        yield signs.fills[place] * 2, _TONES[place]
        yield f" fits {sweep.targets[number].name}   ", Tone.PLAIN
    yield UNDECIDED * 2, Tone.CAUTION
    yield " cannot be decided   ", Tone.PLAIN
    yield signs.nothing * 2, Tone.BAD
    yield " does not fit", Tone.PLAIN
