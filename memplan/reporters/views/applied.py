"""``memplan apply``: what was written, and what is left to do by hand."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.apply import Applied
from memplan.reporters.blocks import Block, Bullets, Heading, Report, Tone, Verbatim


def report(applied: Applied) -> Report:
    """The checklist after writing; the diff and nothing else when nothing was to be written."""
    return tuple(_blocks(applied))


def _blocks(applied: Applied) -> Iterator[Block]:
    if not applied.files:
        yield Heading("nothing to change: the files hold the planned values", Tone.GOOD)
        return
    if not applied.written:
        yield Verbatim(applied.diff, "diff")
        return
    checklist = applied.checklist
    plural = "s" if len(applied.files) > 1 else ""
    yield Heading(f"{len(applied.files)} file{plural} rewritten", Tone.GOOD)
    yield Bullets(tuple(f"[x] {line}" for line in checklist.lines), "Changed:")
    if backups := tuple(f"{item.path} → {item.backup}" for item in applied.files if item.backup):
        yield Bullets(backups, "Originals kept:")
    left = [f"[ ] {note}" for note in checklist.notes]
    yield Bullets((*left, f"[ ] verify: {checklist.verify}"), "Left to do:", Tone.CAUTION)
