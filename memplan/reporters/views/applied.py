"""``memplan apply``: what was written, and what is left to do by hand."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.apply import Applied
from memplan.dialects.reading import Reading
from memplan.domain.plan import Plan
from memplan.reporters.blocks import Block, Bullets, Paragraph, Report, Tone, Verbatim
from memplan.reporters.views import memory


def report(reading: Reading, plan: Plan, applied: Applied) -> Report:
    """The checklist after writing; the diff and nothing else when nothing was to be written."""
    return tuple(_blocks(reading, plan, applied))


def _blocks(reading: Reading, plan: Plan, applied: Applied) -> Iterator[Block]:
    checklist = applied.checklist
    left = [f"[ ] {note}" for note in checklist.notes]
    to_do = Bullets((*left, f"[ ] verify: {checklist.verify}"), "Left to do:", Tone.CAUTION)
    if not applied.files:
        yield memory.headline(str(reading.path), plan.after)
        yield Paragraph("Nothing to change in the files." if left else "Nothing to change.")
        if left:
            yield to_do
        return
    if not applied.written:
        yield Verbatim(applied.diff, "diff")
        return
    plural = "s" if len(applied.files) > 1 else ""
    yield memory.headline(str(reading.path), plan.after)
    changed = tuple(f"[x] {line}" for line in checklist.lines)
    yield Bullets(changed, f"Changed, in {len(applied.files)} file{plural}:", Tone.GOOD)
    if backups := tuple(f"{item.path} → {item.backup}" for item in applied.files if item.backup):
        yield Bullets(backups, "Originals kept:")
    yield to_do
