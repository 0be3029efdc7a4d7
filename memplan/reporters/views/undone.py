"""``memplan apply --undo``: what is as it was before."""

from __future__ import annotations

from typing import Any

from memplan.apply.undo import Undone
from memplan.reporters.blocks import Bullets, Paragraph, Report, Tone, Verbatim


def report(undone: Undone) -> Report:
    """The restored files; the diff and nothing else when nothing was to be written."""
    if not undone.files:
        return (Paragraph("Nothing to restore: every file is as it was before."),)
    if not undone.written:
        return (Verbatim(undone.diff, "diff"),)
    return (Bullets(tuple(item.path for item in undone.files), "Restored:", Tone.GOOD),)


def payload(undone: Undone) -> dict[str, Any]:
    """``memplan.undo/1``: every restored file with its digest."""
    files = [{"path": item.path, "sha256": item.sha256, "diff": item.diff} for item in undone.files]
    return {"schema": "memplan.undo/1", "written": undone.written, "files": files}
