"""The runs of ``memplan sweep --measure``: what was predicted beside what was seen, row by row."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.measurement import error
from memplan.reporters.blocks import Block, Bullets, Paragraph, Table, Tone
from memplan.reporters.words import size
from memplan.sweep.grid import Ran, Sweep
from memplan.sweep.runs import about, amounts, devices

MOST_REASONS = 5


def ran(sweep: Sweep) -> Iterator[Block]:
    """A row per combination, and what could not be run."""
    names = [axis.name for axis in sweep.axes]
    made = devices(sweep)
    yield Paragraph(f"Run on {made}, {about(sweep)}:" if made else "Nothing could be run.")
    if made:
        rows = tuple((*(item.shown for item in run.settings), *_cells(sweep, run)) for run in sweep.runs)
        heads = (*names, "predicted", "seen", "error")
        yield Table(columns=heads, align=">" * len(heads), rows=rows)
    reasons = tuple(dict.fromkeys(run.reason for run in sweep.runs if run.reason is not None))
    if reasons:
        yield Bullets(reasons[:MOST_REASONS], "Not run:", Tone.CAUTION)


def _cells(sweep: Sweep, run: Ran) -> tuple[str, str, str]:
    if run.found is None:
        return "", "not run", ""
    predicted, seen = amounts(sweep, run.found)
    percent = error(predicted, seen)
    return size(predicted), size(seen), "-" if percent is None else f"{percent:+.3f} %"
