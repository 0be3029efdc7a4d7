"""``memplan sweep``: memory over one or two values as a table, a sketch, and where it stops fitting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memplan.dialects.reading import Reading
from memplan.domain.estimate import Verdict
from memplan.reporters.blocks import Block, Bullets, Heading, Paragraph, Picture, Report, Table, Tone
from memplan.reporters.views.sweep_runs import ran
from memplan.reporters.words import VERDICTS, size
from memplan.sweep.boundary import Boundary, Row, boundaries
from memplan.sweep.grid import Axis, Point, Setting, Sweep
from memplan.sweep.policy import Said

GIB, MIB = 2**30, 2**20
REFUSED = "-"
MARKS = {Verdict.FITS: "", Verdict.UNDECIDED: " ?", Verdict.DOES_NOT_FIT: " ×", None: ""}
"""What stands behind a figure of a two-way table."""

MARGIN = "  "
"""As wide as a mark: figures stand under each other, marked or not."""

MOST_REASONS = 5
MOST_COLUMNS = 8
"""Columns of figures that have room on a screen of usual width."""


def report(reading: Reading, sweep: Sweep, sketch: Picture | None = None) -> Report:
    """Headline, table, sketch, boundary, and what was refused."""
    return tuple(_blocks(reading, sweep, sketch))


def _blocks(reading: Reading, sweep: Sweep, sketch: Picture | None) -> Iterator[Block]:
    names = " × ".join(axis.name for axis in sweep.axes)
    where = f" on {', '.join(target.name for target in sweep.targets)}" if sweep.targets else ""
    yield Heading(f"{reading.path}: {sweep.memory} over {names}{where}")
    two_way = len(sweep.axes) == 2 and not sweep.runs
    if two_way:
        yield Paragraph(_axes(sweep))
        yield from crossed(sweep)
        yield Paragraph(_legend(sweep))
    else:
        yield listed(sweep)
    if sketch is not None:
        yield sketch
    yield from map(_limits, boundaries(sweep))
    yield from _returning(sweep)
    yield from _refused(sweep)
    if sweep.runs:
        yield from ran(sweep)
    for note in sweep.notes:
        yield Paragraph(note)
    if reading.warnings:
        yield Bullets(reading.warnings, "Warnings:", Tone.CAUTION)
    if not sweep.targets:
        yield Paragraph("No target: name one or several with --gpu to learn what fits.")


def crossed(sweep: Sweep) -> tuple[Table, ...]:
    """Two axes, the longer one downwards: the process on the GPU with most memory, marked where that ends.

    More columns than have room beside each other go into further tables.
    """
    down, across, turned = _turned(sweep)
    divisor, _ = _unit(sweep)
    tables = []
    for start in range(0, len(across.settings), MOST_COLUMNS):
        columns = across.settings[start : start + MOST_COLUMNS]
        rows = tuple(
            (
                row.shown,
                *(
                    _cell(sweep, sweep.at((column, row) if turned else (row, column)), divisor)
                    for column in columns
                ),
            )
            for row in down.settings
        )
        heads = (down.name, *(f"{column.shown}{MARGIN}" for column in columns))
        tables.append(Table(columns=heads, align=">" * len(heads), rows=rows))
    return tuple(tables)


def listed(sweep: Sweep) -> Table:
    """One row per combination: the whole process, and the verdict of every target."""
    names = [axis.name for axis in sweep.axes]
    heads = (*names, "whole process", "bounds", *(target.name for target in sweep.targets))
    rows = tuple(
        (*(setting.shown for setting in point.settings), *_amounts(sweep, point), *_verdicts(sweep, point))
        for point in sweep.points
    )
    return Table(columns=heads, align=">" * (len(names) + 2) + "<" * len(sweep.targets), rows=rows)


def figure(amount: int, divisor: int) -> str:
    """Three significant digits at the least, without a unit: ``7.73``, ``37.0``, ``1,331``."""
    value = amount / divisor
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def within(axis: Axis, row: Row) -> str:
    """``up to 8 (exactly 13), perhaps 16``, in words."""
    if row.possible is None:
        return "nothing fits"
    last = axis.settings[-1]
    if row.largest is None:
        return f"nothing surely; perhaps {row.possible.shown}"
    exactly = "" if row.exact is None else f" (exactly {row.exact:,})"
    perhaps = f", perhaps {row.possible.shown}" if row.possible != row.largest else ""
    return (
        f"all, up to {last.shown}" if row.largest == last else f"up to {row.largest.shown}{exactly}{perhaps}"
    )


def _turned(sweep: Sweep) -> tuple[Axis, Axis, bool]:
    """The axis that goes down, the one that goes across, and whether that is the other way round."""
    first, second = sweep.axes
    turned = len(second.settings) > len(first.settings)
    return (second, first, True) if turned else (first, second, False)


def _cell(sweep: Sweep, point: Point, divisor: int) -> str:
    if not point.estimates:
        return REFUSED + MARGIN
    found = point.estimates[sweep.widest]
    return figure(found.needed, divisor) + (MARKS[found.verdict] or MARGIN)


def _amounts(sweep: Sweep, point: Point) -> tuple[str, str]:
    if not point.estimates:
        return REFUSED, ""
    found = point.estimates[sweep.widest]
    same = found.least == found.needed == found.most
    return size(found.needed), "" if same else f"{size(found.least)} to {size(found.most)}"


def _verdicts(sweep: Sweep, point: Point) -> Iterator[str]:
    for number in range(len(sweep.targets)):
        verdict = point.verdict(number)
        yield "refused" if verdict is None else VERDICTS[verdict]


def _unit(sweep: Sweep) -> tuple[int, str]:
    largest = max((found.needed for point in sweep.points for found in point.estimates), default=0)
    return (GIB, "GiB") if largest >= GIB else (MIB, "MiB")


def _axes(sweep: Sweep) -> str:
    down, across, _ = _turned(sweep)
    return f"{_unit(sweep)[1]}; {down.name} downwards, {across.name} across:"


def _legend(sweep: Sweep) -> str:
    if not sweep.targets:
        return "Figures are reserved memory without the CUDA context."
    name = sweep.targets[sweep.widest].name
    return f"Figures are the whole process on {name}. ×: does not fit it; ?: cannot be decided; -: refused."


def _limits(found: Boundary) -> Bullets:
    name, along = found.target.name, found.along
    rule = "" if found.said is None else f" ({_said(found.said)})"
    title = f"What fits {name} ({size(found.target.limit)}), {along.name}{rule}:"
    return Bullets(tuple(f"{_where(found.others, row)}{within(along, row)}" for row in found.rows), title)


def _said(found: Said) -> str:
    return f"the table {found.rule} says {'nothing' if found.value is None else f'{found.value:,}'}"


def _returning(sweep: Sweep) -> Iterator[Paragraph]:
    """That a figure may lie above a limit that it fits: cached memory is given back in time."""
    names = [
        target.name
        for number, target in enumerate(sweep.targets)
        if any(
            point.verdict(number) is Verdict.FITS and point.estimates[number].device.returned
            for point in sweep.points
        )
    ]
    if names:
        yield Paragraph(f"Some of what fits {', '.join(names)} does so only by giving cached memory back.")


def _where(others: Sequence[Axis], row: Row) -> str:
    chosen = [f"{axis.name} {item.shown}" for axis, item in zip(others, row.others, strict=True)]
    return f"{', '.join(chosen)}: " if chosen else ""


def _refused(sweep: Sweep) -> Iterator[Block]:
    reasons: dict[str, list[tuple[Setting, ...]]] = {}
    for point in sweep.points:
        if point.refused is not None:
            reasons.setdefault(point.refused, []).append(point.settings)
    lines = [f"{_first(sweep, points)}: {reason}" for reason, points in reasons.items()]
    if len(lines) > MOST_REASONS:
        lines = [*lines[:MOST_REASONS], f"and {len(lines) - MOST_REASONS} more"]
    if lines:
        yield Bullets(tuple(lines), "Refused:", Tone.CAUTION)


def _first(sweep: Sweep, points: Sequence[Sequence[Setting]]) -> str:
    chosen = zip(sweep.axes, points[0], strict=True)
    more = f" and {len(points) - 1} more" if len(points) > 1 else ""
    return ", ".join(f"{axis.name} {item.shown}" for axis, item in chosen) + more
