"""What a sweep is made of: axes of settings, a point for every combination, and what comes of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod

from memplan.domain.estimate import Estimate, Verdict
from memplan.domain.measurement import Comparison
from memplan.domain.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value of an axis: its text as given, and the number it is, if it is one."""

    text: str
    number: int | None = None

    @property
    def shown(self) -> str:
        """The value for people: ``65,536``."""
        return self.text if self.number is None else f"{self.number:,}"

    @property
    def plain(self) -> int | str:
        """The value for programs."""
        return self.text if self.number is None else self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A value that is varied: its name as given, its native path (or declared name), and its settings."""

    name: str
    field: str
    settings: tuple[Setting, ...]

    @property
    def numeric(self) -> bool:
        """Whether all settings are numbers that grow, so that there is a largest one that fits."""
        numbers = [item.number for item in self.settings if item.number is not None]
        return len(numbers) == len(self.settings) and all(a < b for a, b in pairwise(numbers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One combination: a setting of every axis, an estimate for every target, or why there is none.

    Without targets there is one estimate, on no GPU in particular.
    """

    settings: tuple[Setting, ...]
    estimates: tuple[Estimate, ...] = ()
    refused: str | None = None

    def verdict(self, target: int) -> Verdict | None:
        """Whether it fits the target of that number; None where nothing could be estimated."""
        return self.estimates[target].verdict if self.estimates else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The largest value that fits the target of that number, with those settings of the other axes."""

    target: int
    others: tuple[Setting, ...]
    largest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run of a combination showed, or why there was none."""

    settings: tuple[Setting, ...]
    found: Comparison | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Every combination of the axes' settings, the last axis varying fastest.

    ``notes`` say what a reader might take for granted. ``limits`` are between the settings, where they were
    asked for. ``runs`` line up with the points, if combinations were run as well; of these runs the ``shown``
    components count, or all there is at the peak.
    """

    axes: tuple[Axis, ...]
    targets: tuple[Target, ...]
    points: tuple[Point, ...]
    notes: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    runs: tuple[Ran, ...] = ()
    shown: tuple[str, ...] = ()

    @property
    def memory(self) -> str:
        """Which memory its figures are of."""
        made = next((point.estimates[0] for point in self.points if point.estimates), None)
        return "host memory" if made is not None and made.on_host else "GPU memory"

    @property
    def widest(self) -> int:
        """The number of the target with the most memory, whose figures are shown where only one fits."""
        return max(range(len(self.targets)), key=lambda number: self.targets[number].limit, default=0)

    def at(self, settings: Sequence[Setting]) -> Point:
        """The point with these settings."""
        place = 0
        for axis, setting in zip(self.axes, settings, strict=True):
            place = place * len(axis.settings) + axis.settings.index(setting)
        return self.points[place]


def count(axes: Sequence[Axis]) -> int:
    """How many combinations there are."""
    return prod(len(axis.settings) for axis in axes)


def along(sweep: Sweep) -> Axis | None:
    """The last axis of growing numbers, which has a largest value that fits; None where all are of words."""
    return next((axis for axis in reversed(sweep.axes) if axis.numeric), None)


def combinations(axes: Iterable[Axis]) -> Iterator[tuple[Setting, ...]]:
    """A setting of every axis, in the order of a sweep's points."""
    return product(*(axis.settings for axis in axes))
