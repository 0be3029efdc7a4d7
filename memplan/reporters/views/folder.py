"""``memplan fit`` of a folder: what became of every config below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memplan.domain.wording import in_words
from memplan.fit.outcome import FolderPlans, Outcome, Planned
from memplan.reporters.blocks import Block, Bullets, Heading, Paragraph, Report, Table, Tone
from memplan.reporters.json import value
from memplan.reporters.words import size, times

WORDS = {
    Outcome.FITS: "fits as it is",
    Outcome.FITS_AFTER_CHANGES: "fits after changes",
    Outcome.DOES_NOT_FIT: "does not fit",
    Outcome.UNDECIDED: "cannot be decided",
    Outcome.UNREADABLE: "not read",
}
SEVERAL = {
    Outcome.FITS: "fit as they are",
    Outcome.FITS_AFTER_CHANGES: "fit after changes",
    Outcome.DOES_NOT_FIT: "do not fit",
}
"""The words that differ for several configs."""


def report(found: FolderPlans) -> Report:
    """The counts, a row for each config, those that could not be read, and what was left out."""
    return tuple(_blocks(found))


def payload(found: FolderPlans) -> dict[str, Any]:
    """``memplan.plans/1``: one entry a config, in the order of their paths."""
    return {
        "schema": "memplan.plans/1",
        "source": str(found.folder),
        "counts": {str(outcome): found.count(outcome) for outcome in Outcome},
        "left_out": {str(reason): count for reason, count in found.left_out.items()},
        "plans": [_entry(each) for each in found.planned],
    }


def _blocks(found: FolderPlans) -> Iterator[Block]:
    read = [each for each in found.planned if each.outcome is not Outcome.UNREADABLE]
    targets = {each.target for each in read}
    yield Heading(_headline(found, targets), Tone.GOOD if found.exit_code == 0 else Tone.BAD)
    if read:
        yield _table(read, several=len(targets) > 1)
    unread = tuple(
        f"{each.path}: {each.reason}" for each in found.planned if each.outcome is Outcome.UNREADABLE
    )
    if unread:
        yield Bullets(unread, "Not read:", Tone.CAUTION)
    if found.left_out:
        told = ", ".join(f"{count} {_plural(str(reason), count)}" for reason, count in found.left_out.items())
        yield Paragraph(f"Left out: {told}.")


def _worded(outcome: Outcome, count: int) -> str:
    return WORDS[outcome] if count == 1 else SEVERAL.get(outcome, WORDS[outcome])


def _headline(found: FolderPlans, targets: set[str]) -> str:
    counts = [f"{count} {_worded(outcome, count)}" for outcome in Outcome if (count := found.count(outcome))]
    where = f" on {next(iter(targets))}" if len(targets) == 1 else ""
    plural = "s" if len(found.planned) > 1 else ""
    return f"{found.folder}: {len(found.planned)} config{plural}{where}: {', '.join(counts)}"


def _table(read: list[Planned], *, several: bool) -> Table:
    columns = ("config", *(("on",) if several else ()), "outcome", "needs", "headroom", "step time", "what")
    rows = tuple(
        (
            str(each.path),
            *((each.target,) if several else ()),
            WORDS[each.outcome],
            size(each.needs),
            size(each.headroom),
            times(each.slowdown),
            _what(each),
        )
        for each in read
    )
    return Table(columns=columns, align="<" * (len(columns) - 4) + ">>><", rows=rows)


def _what(each: Planned) -> str:
    """What has to change, or what keeps it from fitting."""
    changed = in_words(each.changes) if each.outcome is Outcome.FITS_AFTER_CHANGES else each.reason
    return f"{changed} ({each.by_hand} by hand)" if each.by_hand and changed else changed


def _plural(reason: str, count: int) -> str:
    return {"no config": "no config of any format" if count == 1 else "no configs of any format"}.get(
        reason, reason
    )


def _entry(each: Planned) -> dict[str, Any]:
    found: dict[str, Any] = {
        "path": str(each.path),
        "outcome": str(each.outcome),
        "reason": each.reason or None,
    }
    if each.outcome is Outcome.UNREADABLE:
        return found
    return found | {
        "dialect": each.dialect,
        "target": each.target,
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
        "before": int(each.needed),
        "after": int(each.needs),
        "headroom": int(each.headroom),
        "slowdown": round(each.slowdown, 4),
        "by_hand": each.by_hand,
        "plan": None if each.saved is None else str(each.saved),
    }
