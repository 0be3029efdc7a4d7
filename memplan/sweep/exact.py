"""The largest value that fits, to the unit: between a setting that does and the next, which does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memplan.domain.estimate import Verdict
from memplan.sweep.boundary import bracket
from memplan.sweep.grid import Axis, Limit, Point, Setting, Sweep, along, combinations


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line of points along an axis on one target, from which values in between are asked for."""

    ask: Callable[[tuple[Setting, ...]], Point]
    axis: Axis
    place: int
    others: tuple[Setting, ...]
    target: int

    def fits(self, value: int) -> bool:
        """Whether that value surely does; one that is refused does not."""
        setting = Setting(text=str(value), number=value)
        settings = (*self.others[: self.place], setting, *self.others[self.place :])
        return self.ask(settings).verdict(self.target) is Verdict.FITS


def limits(sweep: Sweep, ask: Callable[[tuple[Setting, ...]], Point]) -> Iterator[Limit]:
    """The largest values along the sweep's last axis of growing numbers, for every target and combination.

    They are found by halving, as memory does not fall while the value grows; of values that are refused in
    between (what does not divide) it is one that fits next to one that does not.

    Args:
        sweep: with its points.
        ask: estimates a combination that need not be one of the sweep's.
    """
    axis = along(sweep)
    if axis is None:
        return
    place = sweep.axes.index(axis)
    for target in range(len(sweep.targets)):
        for others in combinations(item for item in sweep.axes if item is not axis):
            between = bracket(sweep, axis, others, target)
            if between is not None:
                line = _Line(ask=ask, axis=axis, place=place, others=others, target=target)
                yield Limit(target=target, others=others, largest=_halved(line, *between))


def _halved(line: _Line, fits: int, beyond: int) -> int:
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        if line.fits(middle):
            fits = middle
        else:
            beyond = middle
    return fits
