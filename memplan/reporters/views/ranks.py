"""``memplan smoke`` of several processes: what each of them held beside what was predicted for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memplan.dialects.reading import Reading
from memplan.domain.measurement import error
from memplan.domain.ranks import Holdings, Rank, RankedRun
from memplan.reporters.blocks import Block, Bullets, Heading, Report, Table, Tone
from memplan.reporters.words import size

NAMES = {"none": "DDP", "fsdp1": "FSDP1", "fsdp2": "FSDP2"}

HELD = ("parameters", "gradients", "optimizer_state")


def report(reading: Reading, found: RankedRun) -> Report:
    """Headline, a table of what every rank held, and what the measurement rests on."""
    return tuple(_blocks(reading, found))


def _blocks(reading: Reading, found: RankedRun) -> Iterator[Block]:
    verdict = "as predicted" if found.passed else "not as predicted"
    heaviest = found.heaviest
    most = size(heaviest.measured.peak_allocated)
    how = NAMES.get(found.sharding, found.sharding)
    said = f"{len(found.ranks)} ranks of {how}, at most {most} on rank {heaviest.number}"
    yield Heading(f"{reading.path}: {verdict} ({said})", Tone.GOOD if found.passed else Tone.BAD)
    rows = tuple(row for rank in found.ranks for row in _rows(rank))
    yield Table(columns=("rank", "held", "predicted", "seen", "difference"), align="><>>>", rows=rows)
    if found.notes:
        yield Bullets(found.notes, "The measurement:")
    if reading.warnings:
        yield Bullets(reading.warnings, "Warnings:", Tone.CAUTION)


def _rows(rank: Rank) -> Iterator[tuple[str, ...]]:
    for name in (*HELD, "peak_allocated"):
        before, after = getattr(rank.predicted, name), getattr(rank.measured, name)
        number = str(rank.number) if name == HELD[0] else ""
        yield (
            number,
            name,
            f"{before:,}",
            f"{after:,}",
            f"{after - before:+,}" if after != before else "exact",
        )


def payload(reading: Reading, found: RankedRun) -> dict[str, Any]:
    """``memplan.smoke/1`` of the rank with the highest peak, and all of them under ``ranks``.

    Bytes predicted and measured are under the same keys, errors in percent; an error is null where something
    was predicted that did not occur.
    """
    return {
        "schema": "memplan.smoke/1",
        "source": str(reading.path),
        "device": found.device,
        "sharding": found.sharding,
        "passed": found.passed,
        **_sides(found.heaviest),
        "ranks": [
            {"rank": rank.number, "passed": found.accepts(rank), **_sides(rank)} for rank in found.ranks
        ],
        "notes": list(found.notes),
        "warnings": list(reading.warnings),
    }


def _sides(rank: Rank) -> dict[str, Any]:
    predicted, measured = _holdings(rank.predicted), _holdings(rank.measured)
    errors = {
        "peak_allocated": _percent(predicted["peak_allocated"], measured["peak_allocated"]),
        "components": {
            name: _percent(predicted["components"][name], measured["components"][name]) for name in HELD
        },
    }
    return {"predicted": predicted, "measured": measured, "error": errors}


def _holdings(found: Holdings) -> dict[str, Any]:
    return {
        "peak_allocated": int(found.peak_allocated),
        "components": {name: int(getattr(found, name)) for name in HELD},
    }


def _percent(predicted: int, measured: int) -> float | None:
    found = error(predicted, measured)
    return None if found is None else round(found, 4)
