"""``memplan fit --gpu any``: which GPUs a run fits on, as it is or after changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from memplan.dialects.reading import Reading
from memplan.domain.wording import in_words
from memplan.fit.anywhere import Ranked, Standing
from memplan.reporters.blocks import Block, Bullets, Heading, Paragraph, Report, Table, Tone
from memplan.reporters.json import value
from memplan.reporters.words import size

WORDS = {
    Standing.FITS: "fits as it is",
    Standing.FITS_AFTER_CHANGES: "fits after changes",
    Standing.UNDECIDED: "cannot be decided",
    Standing.DOES_NOT_FIT: "does not fit",
    Standing.LACKS: "lacks what the config asks for",
}
NEAREST = 5
"""GPUs that are shown of those on which a run does not fit."""


def report(reading: Reading, ranked: Sequence[Ranked]) -> Report:
    """The GPUs it fits on, the nearest of those it does not, and how many lack what it asks for."""
    return tuple(_blocks(reading, ranked))


def payload(reading: Reading, ranked: Sequence[Ranked]) -> dict[str, Any]:
    """``memplan.any/1``: every GPU, the best first."""
    return {
        "schema": "memplan.any/1",
        "source": str(reading.path),
        "gpus": [_entry(each) for each in ranked],
        "warnings": list(reading.warnings),
    }


def _blocks(reading: Reading, ranked: Sequence[Ranked]) -> Iterator[Block]:
    fitting = [each for each in ranked if each.fits]
    count = reading.workload.world.data_parallel
    several = f", {count} of them" if count > 1 else ""
    yield Heading(
        f"{reading.path} fits on {len(fitting)} of {len(ranked)} GPUs{several}",
        Tone.GOOD if fitting else Tone.BAD,
    )
    if fitting:
        yield _table(fitting)
        yield Paragraph(
            "Speed is modelled, and relative to the fastest of them.\n"
            f"All about one of them: memplan fit {reading.path} --gpu NAME"
        )
    for standing in (Standing.UNDECIDED, Standing.DOES_NOT_FIT):
        yield from _missed(standing, [each for each in ranked if each.standing is standing])
    lacking = [each for each in ranked if each.standing is Standing.LACKS]
    if lacking:
        names = ", ".join(each.gpu.name for each in lacking)
        title = f"Without what the config asks for (memplan estimate says what): {_number(lacking)}:"
        yield Bullets((names,), title, Tone.CAUTION)
    if reading.warnings:
        yield Bullets(reading.warnings, "Warnings:", Tone.CAUTION)


def _table(fitting: Sequence[Ranked]) -> Table:
    rows = tuple(
        (
            each.gpu.name,
            size(each.gpu.capacity),
            WORDS[each.standing] if not each.changes else f"after {each.harm.label} changes",
            size(each.headroom),
            f"{each.speed:.0%}" if each.speed else "",
            _changes(each),
        )
        for each in fitting
    )
    return Table(
        columns=("GPU", "memory", "outcome", "headroom", "speed", "changes"), align="<><>><", rows=rows
    )


def _changes(each: Ranked) -> str:
    told = in_words(each.changes)
    return f"{told} ({each.by_hand} by hand)" if each.by_hand else told


def _missed(standing: Standing, missed: Sequence[Ranked]) -> Iterator[Bullets]:
    if not missed:
        return
    lines = [f"{each.gpu.name} ({size(each.gpu.capacity)}): {_miss(each)}" for each in missed[:NEAREST]]
    if len(missed) > NEAREST:
        lines.append(f"and {len(missed) - NEAREST} more")
    yield Bullets(tuple(lines), f"{WORDS[standing].capitalize()} on {_number(missed)}:", Tone.CAUTION)


def _miss(each: Ranked) -> str:
    return f"misses by {size(each.missing)}" if each.missing else f"needs {size(each.needs)}"


def _number(items: Sequence[Ranked]) -> str:
    return "1 GPU" if len(items) == 1 else f"{len(items)} GPUs"


def _entry(each: Ranked) -> dict[str, Any]:
    return {
        "gpu": each.gpu.name,
        "title": each.gpu.title,
        "capacity": int(each.gpu.capacity),
        "usable": int(each.gpu.usable),
        "standing": str(each.standing),
        "harm": each.harm.label,
        "changes": [
            {
                "field": item.field,
                "before": value(item.before),
                "after": value(item.after),
                "harm": item.harm.label,
            }
            for item in each.changes
        ],
        "needs": int(each.needs),
        "headroom": int(each.headroom),
        "missing": int(each.missing),
        "speed": round(each.speed, 4),
        "by_hand": each.by_hand,
        "lacks": list(each.lacks),
    }
