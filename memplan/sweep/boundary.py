"""Where a sweep stops fitting: the largest value that does, for every setting of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memplan.domain.estimate import Verdict
from memplan.domain.target import Target
from memplan.sweep.grid import Axis, Point, Setting, Sweep, along, combinations
from memplan.sweep.policy import Said, said


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One setting of the other axes: the largest value that fits, and the largest that may.

    Either is None where not even the smallest does. ``possible`` is beyond ``largest`` where the bounds of an
    estimate straddle the limit. ``exact`` is the largest between the settings, where it was asked for.
    """

    others: tuple[Setting, ...]
    largest: Setting | None
    possible: Setting | None
    exact: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """The rows of one target, along one axis; ``said`` is what a rule of thumb has as the largest value."""

    target: Target
    along: Axis
    others: tuple[Axis, ...]
    rows: tuple[Row, ...]
    said: Said | None = None


def boundaries(sweep: Sweep) -> tuple[Boundary, ...]:
    """One per target, along the last axis of growing numbers; none where all axes are of words."""
    axis = along(sweep)
    if axis is None:
        return ()
    others = tuple(item for item in sweep.axes if item is not axis)
    workload = next((point.estimates[0].workload for point in sweep.points if point.estimates), None)
    return tuple(
        Boundary(
            target=target,
            along=axis,
            others=others,
            rows=tuple(_row(sweep, axis, chosen, number) for chosen in combinations(others)),
            said=None if workload is None else said(workload, axis.field, target),
        )
        for number, target in enumerate(sweep.targets)
    )


def bracket(sweep: Sweep, axis: Axis, others: tuple[Setting, ...], target: int) -> tuple[int, int] | None:
    """The largest setting that surely fits and the one after it; None if none or the last of all does."""
    row = _row(sweep, axis, others, target)
    if row.largest is None or row.largest == axis.settings[-1]:
        return None
    after = axis.settings[axis.settings.index(row.largest) + 1]
    assert row.largest.number is not None
    assert after.number is not None
    return row.largest.number, after.number


def line(sweep: Sweep, axis: Axis, others: Sequence[Setting]) -> tuple[Point, ...]:
    """The points of every setting of one axis, with those of the others given."""
    place = sweep.axes.index(axis)
    return tuple(sweep.at((*others[:place], setting, *others[place:])) for setting in axis.settings)


def _row(sweep: Sweep, axis: Axis, others: tuple[Setting, ...], target: int) -> Row:
    verdicts = [point.verdict(target) for point in line(sweep, axis, others)]
    found = (item.largest for item in sweep.limits if (item.target, item.others) == (target, others))
    return Row(
        others=others,
        largest=_last(axis, verdicts, (Verdict.FITS,)),
        possible=_last(axis, verdicts, (Verdict.FITS, Verdict.UNDECIDED)),
        exact=next(found, None),
    )


def _last(axis: Axis, verdicts: Sequence[Verdict | None], accepted: tuple[Verdict, ...]) -> Setting | None:
    """The largest value with one of the verdicts."""
    having = [
        setting for setting, verdict in zip(axis.settings, verdicts, strict=True) if verdict in accepted
    ]
    return having[-1] if having else None
