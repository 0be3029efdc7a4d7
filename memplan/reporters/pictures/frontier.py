"""Where a curve of memory passes a GPU's limit, between the points of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from memplan.domain.estimate import Estimate, Verdict
from memplan.sweep.grid import Point


def crossings(points: Sequence[Point], target: int) -> tuple[float, float]:
    """How far along a row of points a run surely fits, and from where it surely does not.

    Both count points: 0 is before the first, 1 at the first, their number at the last or beyond. Between a
    point that fits and one that does not, memory is taken to grow by a constant factor per step.
    """
    fits = _end([point.verdict(target) is Verdict.FITS for point in points])
    may = _end([point.verdict(target) in (Verdict.FITS, Verdict.UNDECIDED) for point in points])
    sure = fits + _part(points, fits, target, upper=True)
    return sure, max(sure, may + _part(points, may, target, upper=False))


def _end(accepted: Sequence[bool]) -> int:
    """Points up to the last that is accepted."""
    return max((place + 1 for place, yes in enumerate(accepted) if yes), default=0)


def _part(points: Sequence[Point], end: int, target: int, *, upper: bool) -> float:
    """The share of the step from the last accepted point to the next at which a bound passes the limit."""
    if not 0 < end < len(points) or not points[end].estimates:
        return 0.0
    before, after = (_bound(points[place].estimates[target], upper) for place in (end - 1, end))
    found = points[end].estimates[target]
    limit = int(found.target.limit) if found.target else 0
    if not 0 < before < limit < after:
        return 0.0
    return log(limit / before) / log(after / before)


def _bound(found: Estimate, upper: bool) -> int:
    return int(found.most if upper else found.least)
