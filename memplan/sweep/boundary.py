"""Where a sweep stops fitting: the largest value that does, for every setting of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memplan.domain.estimate import Verdict
from memplan.domain.target import Target
from memplan.sweep.grid import Axis, Point, Setting, Sweep, combinations


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One setting of the other axes: the largest value that fits, and the largest that may.

    Either is None where not even the smallest does. ``possible`` is beyond ``largest`` where the bounds of an
    estimate straddle the limit.
    """

    others: tuple[Setting, ...]
    largest: Setting | None
    possible: Setting | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """The rows of one target, along one axis."""

    target: Target
    along: Axis
    others: tuple[Axis, ...]
    rows: tuple[Row, ...]


def boundaries(sweep: Sweep) -> tuple[Boundary, ...]:
    """One per target, along the last axis of growing numbers; none where all axes are of words."""
    along = next((axis for axis in reversed(sweep.axes) if axis.numeric), None)
    if along is None:
        return ()
    others = tuple(axis for axis in sweep.axes if axis is not along)
    return tuple(
        Boundary(
            target=target,
            along=along,
            others=others,
            rows=tuple(
                _row(chosen, line(sweep, along, chosen), along, number) for chosen in combinations(others)
            ),
        )
        for number, target in enumerate(sweep.targets)
    )


def line(sweep: Sweep, along: Axis, others: Sequence[Setting]) -> tuple[Point, ...]:
    """The points of every setting of one axis, with those of the others given."""
    place = sweep.axes.index(along)
    return tuple(sweep.at((*others[:place], setting, *others[place:])) for setting in along.settings)


def _row(others: tuple[Setting, ...], points: Sequence[Point], along: Axis, target: int) -> Row:
    verdicts = [point.verdict(target) for point in points]
    return Row(
        others=others,
        largest=_last(along, verdicts, (Verdict.FITS,)),
        possible=_last(along, verdicts, (Verdict.FITS, Verdict.UNDECIDED)),
    )


def _last(along: Axis, verdicts: Sequence[Verdict | None], accepted: tuple[Verdict, ...]) -> Setting | None:
    """The largest value with one of the verdicts."""
    having = [
        setting for setting, verdict in zip(along.settings, verdicts, strict=True) if verdict in accepted
    ]
    return having[-1] if having else None
