"""How values are written for people: sizes, shares, changes, dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Verdict
from memplan.domain.wording import worded
from memplan.domain.workload import Adapter, Checkpointing, Loss, Quantization

VERDICTS = {
    Verdict.FITS: "fits",
    Verdict.DOES_NOT_FIT: "does not fit",
    Verdict.UNDECIDED: "cannot be decided",
}

NAMED = (Adapter, Checkpointing, Loss, Quantization)
"""Parts of a workload that have a short name of their own; other parts are shown field by field."""


def size(amount: int) -> str:
    """Three significant digits with a binary unit: ``3.91 GiB``."""
    return Bytes(amount).rounded()


def share(part: int, whole: int) -> str:
    """A part of a whole in percent, to one decimal place."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


TENFOLD = 10
"""From here on a factor says more than a percentage."""


def change(before: int, after: int) -> str:
    """A change in percent with its sign, from ten times on as a factor; ``new`` without anything before."""
    if before == after:
        return "="
    if not before:
        return "new"
    if after >= TENFOLD * before:
        return f"{round(after / before):,}x"
    return f"{100 * (after - before) / before:+.0f} %"


def value(found: Any) -> str:
    """A workload's value as a person would write it in a config."""
    return worded(found)


def times(factor: float) -> str:
    """A step time relative to another: ``1.33x``, and below a tenth ``0.0016x``."""
    return f"{factor:.2f}x" if factor >= 1 / TENFOLD else f"{factor:.2g}x"


def stride(places: Sequence[float], room: float) -> int:
    """Of how many evenly spread labels one has room to be written: 1 when all have."""
    apart = places[1] - places[0] if len(places) > 1 else room
    return max(1, ceil(room / apart)) if apart > 0 else len(places)
