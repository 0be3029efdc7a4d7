"""Which layers of a deep model to simulate, and which of them stands for those that are left out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

LONGEST_PERIOD = 12
"""Layers after which a model repeats itself, at most."""

UNITS = 4
"""Units that are simulated."""

REPEATED = 1
"""The one of them that is repeated; the next must turn out to be its copy."""


@dataclass(frozen=True, slots=True)
class Fold:
    """``layers``: unit and index in the model of each layer that is simulated; ``repeats``: copies left out.

    A unit is as many layers as the model takes to repeat itself. The first and the last unit may differ from
    the others, by what surrounds them.
    """

    layers: tuple[tuple[int, int], ...]
    repeats: int
    layer: int = REPEATED


def fold(kinds: Sequence[Hashable]) -> Fold | None:
    """The smallest part of a model that shows all of it, given the kind of each layer; None if it is all.

    Layers of one kind are alike but for their weights' values. The part is what differs at the front with one
    unit, two units that are alike, and the last unit with what is left over.
    """
    found = [part for period in range(1, LONGEST_PERIOD + 1) if (part := _part(kinds, period))]
    return min(found, key=lambda part: len(part.layers), default=None)


def _part(kinds: Sequence[Hashable], period: int) -> Fold | None:
    """The part for one period, counted from the end of what differs at the front."""
    count = len(kinds)
    lead = count - period
    while lead > 0 and kinds[lead - 1] == kinds[lead - 1 + period]:
        lead -= 1
    units = (count - lead) // period
    if units <= UNITS:
        return None
    second, last = lead + period, lead + (units - 1) * period
    cut = (0, second, second + period, second + 2 * period)
    places = [*((unit, index) for unit in range(3) for index in range(cut[unit], cut[unit + 1]))]
    places += [(3, index) for index in range(last, count)]
    return Fold(tuple(places), units - UNITS)
