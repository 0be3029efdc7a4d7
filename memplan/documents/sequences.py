"""Byte-exact edits of lists: one value more behind the last."""

from __future__ import annotations

import re

from memplan.documents.notation import spell
from memplan.documents.placement import behind, line_end, line_start, refused
from memplan.documents.source import Source
from memplan.documents.tree import Language, ScalarNode, SequenceNode
from memplan.domain.edit import Edit, Span

_DASH = re.compile(r" *- +")
_REST = re.compile(r"[ \t]*(?:#[^\r\n]*)?(?=[\r\n]|\Z)")


def append(source: Source, sequence: SequenceNode, value: str) -> Edit:
    """A word behind the last item of a list: in a line of its own, or before the closing bracket.

    Raises:
        EditRefusedError: the list is fixed or empty, or its last item stands where nothing can follow.
    """
    last = sequence.items[-1] if sequence.items else None
    if sequence.fixed is not None or not isinstance(last, ScalarNode) or last.fixed is not None:
        raise refused(source, sequence.span, f"{value} cannot be added to this list")
    written = spell(value, sequence.language)
    if sequence.flow:
        return _edit(source, last.span.end, f", {written}", written)
    text = source.text
    start = line_start(text, last.span.start)
    prefix = text[start : last.span.start]
    alone = _DASH.fullmatch(prefix) and _REST.match(text, last.span.end) and last.text[:1] not in ("|", ">")
    if sequence.language is not Language.YAML or not alone:
        raise refused(source, last.span, "no item can be added behind this one")
    at = behind(text, last.span.end)
    ended = text[at - 1] in "\r\n"
    newline = line_end(text, at)
    line = f"{prefix}{written}"
    return _edit(source, at, f"{line}{newline}" if ended else f"{newline}{line}", written)


def _edit(source: Source, at: int, replacement: str, written: str) -> Edit:
    return Edit(
        path=source.path,
        span=Span(at, at),
        replacement=replacement,
        line=source.line(at),
        before="",
        after=written,
    )
