"""Lines of a text: where one begins, where the next one does, how they end."""

from __future__ import annotations

import re

from memplan.documents.source import Source
from memplan.domain.edit import Span
from memplan.domain.errors import EditRefusedError

_LINE_END = re.compile(r"\r\n|\n|\r")


def line_start(text: str, offset: int) -> int:
    """The first offset of the line that holds an offset."""
    return max(text.rfind("\n", 0, offset), text.rfind("\r", 0, offset)) + 1


def behind(text: str, offset: int) -> int:
    """The start of the line after the one that holds what ends at an offset."""
    if offset > 0 and text[offset - 1] in "\r\n":
        return offset
    match = _LINE_END.search(text, offset)
    return match.end() if match else len(text)


def line_end(text: str, offset: int) -> str:
    """The line ending in use just before an offset, else the file's first, else a newline."""
    start = max(0, line_start(text, offset) - 2)
    match = _LINE_END.search(text, start, offset) or _LINE_END.search(text)
    return match.group() if match else "\n"


def refused(source: Source, span: Span, message: str) -> EditRefusedError:
    """The error for an edit that has no safe place."""
    return EditRefusedError(message, location=source.location(span), hint="change it by hand")
