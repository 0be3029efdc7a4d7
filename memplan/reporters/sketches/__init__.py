"""Plots made of characters, for terminals: ``curve`` over one value, ``regions`` over two.

Signs that only Unicode has are used on a screen that can show them; everything else gets ASCII.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from memplan.reporters.blocks import Picture
from memplan.reporters.terminal import decorated
from memplan.sweep.grid import Sweep

__all__ = ["ASCII", "UNICODE", "Signs", "chosen_signs", "sketch"]

NARROWEST, WIDEST = 40, 100
"""Columns that a sketch takes at the least and at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """The characters of a sketch: axes, a curve and its points, limits, and fillings from best to worst."""

    side: str
    bottom: str
    corner: str
    point: str
    path: str
    limit: str
    fills: tuple[str, ...]
    nothing: str


UNICODE = Signs(
    side="│", bottom="─", corner="└", point="●", path="·", limit="╌", fills=("█", "▓", "▒", "░"), nothing="·"
)
ASCII = Signs(
    side="|", bottom="-", corner="+", point="o", path=".", limit="-", fills=("#", "%", "+", ":"), nothing="."
)


def sketch(sweep: Sweep, columns: int, signs: Signs) -> Picture | None:
    """A plot as wide as ``columns`` allow; None for three values and more, or where nothing was estimated."""
    from memplan.reporters.sketches import curve, regions

    if len(sweep.axes) > 2 or not any(point.estimates for point in sweep.points):
        return None
    width = max(NARROWEST, min(columns, WIDEST))
    if len(sweep.axes) == 2:
        return regions.draw(sweep, width, signs) if sweep.targets else None
    return curve.draw(sweep, width, signs)


def chosen_signs() -> Signs:
    """Those that standard output as it is now can show."""
    try:
        "".join((UNICODE.side, *UNICODE.fills, UNICODE.point)).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return ASCII
    return UNICODE if decorated() else ASCII
