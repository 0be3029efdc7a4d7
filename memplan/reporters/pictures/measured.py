"""A sweep that was run as well: predictions as lines, what was seen as dots on them."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.errors import FieldError
from memplan.reporters.pictures.curves import Curve, Figure
from memplan.sweep.grid import Axis, Setting, Sweep
from memplan.sweep.runs import about, amounts, devices

Place = tuple[float, float]


def figure(sweep: Sweep, title: str) -> Figure:
    """A curve for every setting of the other axes, along the last axis of growing numbers.

    Raises:
        FieldError: there is no such axis, or nothing could be run.
    """
    along = next((axis for axis in reversed(sweep.axes) if axis.numeric), None)
    if along is None:
        raise FieldError("a picture of runs needs an axis of growing numbers", expected="such as depth=1..8")
    curves = tuple(_curves(sweep, along))
    if not curves:
        reason = next((run.reason for run in sweep.runs if run.reason), "")
        raise FieldError(f"nothing to draw, no combination could be run: {reason}")
    return Figure(
        title=title,
        about=f"{about(sweep)} on {devices(sweep)}: predicted (lines), and seen in runs (dots)",
        across=along.name,
        curves=curves,
        doubling=all(setting.number for setting in along.settings),
    )


def _curves(sweep: Sweep, along: Axis) -> Iterator[Curve]:
    place = sweep.axes.index(along)
    foretold: dict[tuple[Setting, ...], list[Place]] = {}
    seen: dict[tuple[Setting, ...], list[Place]] = {}
    for run in sweep.runs:
        if run.found is None:
            continue
        others = (*run.settings[:place], *run.settings[place + 1 :])
        for lines, amount in zip((foretold, seen), amounts(sweep, run.found), strict=True):
            # Nothing has no place on a scale of powers of two.
            if amount:
                lines.setdefault(others, []).append((float(run.settings[place].number or 0), float(amount)))
    for others, points in foretold.items():
        yield Curve(name=_name(sweep, others), points=tuple(points))
    for others, points in seen.items():
        like = _name(sweep, others)
        yield Curve(
            name=f"{like}, seen",
            points=tuple(points),
            measured=True,
            like=like if others in foretold else None,
        )


def _name(sweep: Sweep, others: tuple[Setting, ...]) -> str:
    return ", ".join(setting.shown for setting in others) or about(sweep)
