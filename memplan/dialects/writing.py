"""Putting values back into a mapping: replace what is there, insert what is missing, refuse the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from memplan.dialects.reading import FieldChange
from memplan.documents.source import Source
from memplan.documents.tree import Language, MappingNode, Node, ScalarNode
from memplan.domain.edit import Advice, Edit, Span
from memplan.domain.errors import EditRefusedError, ImpossibleError
from memplan.domain.workload import Workload

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*", re.ASCII)
_NOT_TEXT = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def put(source: Source, mapping: MappingNode, key: str, value: Any, after: str | None = None) -> list[Edit]:
    """The edits that make ``key`` of a mapping hold ``value``: a scalar, or dicts and lists of scalars.

    A missing key becomes a line after the sibling ``after`` (the last key when None).

    Raises:
        EditRefusedError: the value cannot be written without touching something else.
    """
    # What only writes is not imported by those who read.
    from memplan.documents import edits

    item = mapping.item(key)
    if item is None:
        return [edits.insert(source, mapping, key, value, after or _last(mapping))]
    node = item.value
    if isinstance(node, ScalarNode) and not isinstance(value, dict | list):
        value = _as_text(node, value)
        same = node.value == value and type(node.value) is type(value)
        return [] if same else [edits.replace(source, node, value)]
    if (
        isinstance(node, MappingNode)
        and node.items
        and isinstance(value, dict)
        and set(node.keys()) <= set(value)
    ):
        return [edit for name, inner in value.items() for edit in put(source, node, name, inner)]
    return [_rewritten(source, node, key, value)]


def _as_text(node: ScalarNode, value: Any) -> Any:
    """A number as text where a number stands as text: whoever reads ``'2'`` as 2 reads ``'1'`` as 1."""
    number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if number and isinstance(node.value, str) and node.value.strip().isdigit() else value


def refused(change: FieldChange, error: EditRefusedError) -> Advice:
    """The advice that stands in for an edit that was refused."""
    name, _, after = change
    place = error.location
    return Advice(
        field=name,
        message=f"set {name} to {shown(after)} by hand: {error.message}",
        path=place.path if place else None,
        line=place.line if place else None,
        impossible=isinstance(error, ImpossibleError),
    )


def unwritable(change: FieldChange, reason: str) -> Advice:
    """The advice for a change that the dialect has no key for."""
    name, _, after = change
    return Advice(field=name, message=f"{name} = {shown(after)} is not written: {reason}")


def planned(workload: Workload, changes: Iterable[FieldChange]) -> Workload:
    """The workload with every change made that names a field of it."""
    for name, _, after in changes:
        with suppress(AttributeError, TypeError):
            workload = workload.changed(name, after)
    return workload


def shown(value: Any) -> str:
    """A value of a workload in few words."""
    # What only writes is not imported by those who read.
    from memplan.domain.wording import worded

    return worded(value)


def flow(value: Any) -> str:
    """A value in YAML's flow style, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT else f'"{value}"'
    return str(value)


def _rewritten(source: Source, node: Node, key: str, value: Any) -> Edit:
    """One edit over a whole value whose shape changes (``none`` to ``{every: 2}``)."""
    place = source.location(node.span)
    if node.fixed is not None:
        raise EditRefusedError(f"{key} cannot be edited because {node.fixed}", location=place)
    if not isinstance(node, ScalarNode) and not node.flow:
        raise EditRefusedError(f"{key} is written over several lines", location=place)
    before = source.text[node.span.start : node.span.end]
    from memplan.documents import notation

    after = flow(value) if node.language is Language.YAML else notation.spell(value, node.language)
    space = " " if not before and source.text[: node.span.start].endswith(":") else ""
    return Edit(
        path=source.path,
        span=Span(node.span.start, node.span.end),
        replacement=space + after,
        line=place.line,
        before=before,
        after=after,
    )


def _last(mapping: MappingNode) -> str | None:
    written = [
        item.key.value for item in mapping.items if not item.merged and isinstance(item.key.value, str)
    ]
    return written[-1] if written else None
