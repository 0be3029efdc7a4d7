"""``memplan smoke``: what was predicted beside what was seen, as a report and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from memplan.dialects.reading import Reading
from memplan.domain.churn import Churn
from memplan.domain.measurement import Comparison, Measurement, error
from memplan.domain.shortage import Shortage
from memplan.reporters.blocks import Block, Bullets, Heading, Report, Table, Tone
from memplan.reporters.json import value
from memplan.reporters.views.verified import checks, ticked
from memplan.reporters.words import size


def report(reading: Reading, found: Comparison) -> Report:
    """Headline, phases, components at the peak, and what the measurement rests on."""
    return tuple(_blocks(reading, found))


def _blocks(reading: Reading, found: Comparison) -> Iterator[Block]:
    predicted, measured = found.predicted, found.measured
    verdict = "as predicted" if found.passed else "not as predicted"
    if found.shortage is not None:
        verdict = "out of memory, as predicted" if found.foreseen else "out of memory"
    peaks = f"{size(measured.peak_allocated)} seen, {size(predicted.peak_allocated)} predicted"
    yield Heading(f"{reading.path}: {verdict} ({peaks})", Tone.GOOD if found.passed else Tone.BAD)
    if found.shortage is not None:
        yield from _died(found.shortage)
    totals = [("allocated", predicted.peak_allocated, measured.peak_allocated)]
    if predicted.peak_reserved is not None and measured.peak_reserved is not None:
        totals.append(("reserved", predicted.peak_reserved, measured.peak_reserved))
    if predicted.process is not None and measured.process is not None:
        totals.append(("process", predicted.process, measured.process))
    phases = _paired(predicted.phases, measured.phases)
    yield _table("peak", [*phases, *totals], strong=len(phases))
    if measured.resident:
        yield _table("resident", _paired(predicted.resident, measured.resident))
    yield from _made(predicted.churn, measured.churn)
    yield from _alive("alive at the peak", predicted.components, measured.components)
    if measured.disk:
        yield _table("on disk", _paired(predicted.disk, measured.disk))
    if found.notes:
        yield Bullets(found.notes, "The measurement:")
    if listed := checks(reading, found):
        yield Bullets(ticked(listed), "Verified:")
    if reading.warnings:
        yield Bullets(reading.warnings, "Warnings:", Tone.CAUTION)


def _died(shortage: Shortage) -> Iterator[Block]:
    """The allocation it died of, and what was alive then beside what the prediction holds."""
    yield Bullets((shortage.message,), "The run:", Tone.BAD)
    yield from _alive("alive when it died", shortage.predicted, shortage.alive)


def _alive(
    title: str, predicted: Sequence[tuple[str, int]], measured: Sequence[tuple[str, int]]
) -> Iterator[Table]:
    """Components side by side; no table where nothing is there yet."""
    if rows := _paired(predicted, measured):
        yield _table(title, rows)


Row = tuple[str, int, int]


def _paired(predicted: Sequence[tuple[str, int]], measured: Sequence[tuple[str, int]]) -> list[Row]:
    """Amounts of both sides under one name, as long as one of them is there."""
    before, after = dict(predicted), dict(measured)
    names = dict.fromkeys([*before, *after])
    rows = [(str(name), before.get(name, 0), after.get(name, 0)) for name in names]
    return [row for row in rows if row[1] or row[2]]


def _table(title: str, rows: list[Row], strong: int | None = None) -> Table:
    return Table(
        columns=(title, "predicted", "seen", "error"),
        align="<>>>",
        rows=tuple((name, size(before), size(after), _error(before, after)) for name, before, after in rows),
        strong=frozenset() if strong is None else frozenset(range(strong, len(rows))),
    )


def _made(predicted: Churn | None, measured: Churn | None) -> Iterator[Table]:
    """How much was allocated in one round, whatever was freed in between."""
    if predicted is None or measured is None:
        return
    counts, sizes = (predicted.count, measured.count), (predicted.bytes, measured.bytes)
    yield Table(
        columns=("made in one round", "predicted", "seen", "error"),
        align="<>>>",
        rows=(
            ("allocations", *(f"{count:,}" for count in counts), _error(*counts)),
            ("bytes", *map(size, sizes), _error(*sizes)),
        ),
    )


def _error(predicted: int, measured: int) -> str:
    found = error(predicted, measured)
    return "-" if found is None else f"{found:+.3f} %"


def payload(reading: Reading, found: Comparison) -> dict[str, Any]:
    """``memplan.smoke/1``: bytes predicted and measured under the same keys, and errors in percent.

    An error is null where something was predicted that did not occur.
    """
    predicted, measured = _measurement(found.predicted), _measurement(found.measured)
    return {
        "schema": "memplan.smoke/1",
        "source": str(reading.path),
        "device": found.device,
        "passed": found.passed,
        "predicted": predicted,
        "measured": measured,
        "error": _errors(predicted, measured),
        "shortage": None if found.shortage is None else _shortage(found.shortage, foreseen=found.foreseen),
        "notes": list(found.notes),
        "checks": [{"what": what, "done": done} for what, done in checks(reading, found)],
        "warnings": list(reading.warnings),
    }


def _measurement(found: Measurement) -> dict[str, Any]:
    """What a device has not got is left out of prediction and measurement alike."""
    some = {"peak_reserved": found.peak_reserved, "rss": found.rss, "process": found.process}
    return {
        "peak_allocated": int(found.peak_allocated),
        **{name: int(amount) for name, amount in some.items() if amount is not None},
        "phases": {str(phase): int(peak) for phase, peak in found.phases},
        **({"resident": {str(phase): int(peak) for phase, peak in found.resident}} if found.resident else {}),
        **({} if found.churn is None else {"made": value(found.churn)}),
        "components": {name: int(amount) for name, amount in found.components},
        **({"disk": {name: int(amount) for name, amount in found.disk}} if found.disk else {}),
    }


def _shortage(found: Shortage, *, foreseen: bool) -> dict[str, Any]:
    return {
        "budget": int(found.budget),
        "tried": int(found.tried),
        "allocated": int(found.allocated),
        "phase": str(found.phase),
        "tensor": found.tensor,
        "alive": {name: int(amount) for name, amount in found.alive},
        "predicted": {name: int(amount) for name, amount in found.predicted},
        "foreseen": foreseen,
    }


def _errors(predicted: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """The error of every amount, in the shape of both."""
    errors: dict[str, Any] = {}
    for key in {**predicted, **measured}:
        before, after = predicted.get(key, 0), measured.get(key, 0)
        if isinstance(before, dict):
            errors[key] = _errors(before, after)
        else:
            percent = error(before, after)
            errors[key] = None if percent is None else round(percent, 4)
    return errors
