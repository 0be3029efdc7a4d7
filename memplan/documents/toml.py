"""TOML with the place of every value: meaning from the standard library, places from our own scanner."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from memplan.documents.source import Source
from memplan.documents.toml_statements import Array, Header, Inline, Pair, Raw, Scalar, statements
from memplan.documents.tree import (
    LARGEST_INTEGER,
    Item,
    Language,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    Value,
)
from memplan.documents.yaml_values import INTERPOLATION
from memplan.domain.edit import Span
from memplan.domain.errors import DocumentError

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def parse(source: Source) -> MappingNode:
    """Read a TOML file (TOML 1.0, as ``tomllib`` reads it). A table's span is its header with its body.

    Raises:
        DocumentError: the text is not TOML, an integer is beyond 10**30, or values are nested more than
            100 deep.
    """
    found = statements(source)
    return _Tree(source, found).node(_meaning(source))


def _meaning(source: Source) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(source.text)
    except RecursionError:
        raise DocumentError("not valid TOML: it is nested too deep", location=source.location(0)) from None
    except ValueError as error:
        raise _malformed(source, str(error)) from None


def _malformed(source: Source, message: str) -> DocumentError:
    """The library's error at its place; it counts lines behind ``\\n`` and columns from 1."""
    match = _AT.search(message)
    offset = len(source.text) if match else 0
    if match is not None and match[1] is not None:
        lines = source.text.split("\n")[: int(match[1]) - 1]
        offset = sum(len(line) + 1 for line in lines) + int(match[2]) - 1
    text = _AT.sub("", message)
    problem = text[:1].lower() + text[1:]
    return DocumentError(
        f"not valid TOML: {problem}", location=source.location(min(offset, len(source.text)))
    )


@dataclass(slots=True)
class _Table:
    """A table while its statements are gathered; ``written`` once it has a header or pairs of its own."""

    start: int
    end: int
    flow: bool = False
    items: dict[str, tuple[Span, _Entry]] = field(default_factory=dict)


_Entry = _Table | list[_Table] | Scalar | Array


class _Tree:
    """Statements gathered into tables. The library has read the text, so they do not contradict."""

    def __init__(self, source: Source, found: tuple[Header | Pair, ...]) -> None:
        self._source = source
        self._found = found

    def node(self, meaning: dict[str, Any]) -> MappingNode:
        """The whole file."""
        root = current = _Table(0, 0)
        for statement in self._found:
            if isinstance(statement, Header):
                current = self._open(root, statement)
            else:
                self._put(current, statement)
                current.end = statement.value.span.end
        return self._mapping(root, meaning)

    def _open(self, root: _Table, header: Header) -> _Table:
        table = self._descend(root, header.key[:-1])
        name, place = self._name(header.key[-1]), header.key[-1]
        _, entry = table.items.get(name, (place, None))
        fresh = _Table(header.span.start, header.span.end)
        if header.array:
            if isinstance(entry, list):
                entry.append(fresh)
            else:
                table.items[name] = (place, [fresh])
            return fresh
        if isinstance(entry, _Table):  # a table below this one came first
            fresh.items = entry.items
        table.items[name] = (place, fresh)
        return fresh

    def _put(self, table: _Table, pair: Pair) -> None:
        for segment in pair.key[:-1]:
            inner = self._descend(table, (segment,))
            if not inner.items:
                inner.start = segment.start
            inner.end = pair.value.span.end
            table = inner
        table.items[self._name(pair.key[-1])] = (pair.key[-1], self._entry(pair.value))

    def _descend(self, table: _Table, path: tuple[Span, ...]) -> _Table:
        for segment in path:
            _, entry = table.items.setdefault(
                self._name(segment), (segment, _Table(segment.start, segment.end))
            )
            inner = entry[-1] if isinstance(entry, list) else entry
            assert isinstance(inner, _Table)
            table = inner
        return table

    def _entry(self, raw: Raw) -> _Entry:
        if not isinstance(raw, Inline):
            return raw
        table = _Table(raw.span.start, raw.span.end, flow=True)
        for pair in raw.pairs:
            self._put(table, pair)
        return table

    def _name(self, segment: Span) -> str:
        text = self._source.text[segment.start : segment.end]
        if text[0] == '"' and "\\" in text:
            import tomllib

            return next(iter(tomllib.loads(f"{text} = 0")))
        return text[1:-1] if text[0] in ("'", '"') else text

    def _node(self, entry: _Entry, meaning: Any) -> Node:
        if isinstance(entry, Scalar):
            return self._scalar(entry.span, meaning)
        if isinstance(entry, _Table):
            return self._mapping(entry, meaning)
        parts: list[_Entry]
        if isinstance(entry, Array):
            parts, span = [self._entry(raw) for raw in entry.items], entry.span
        else:
            parts, span = [*entry], Span(entry[0].start, entry[-1].end)
        items = tuple(self._node(part, value) for part, value in zip(parts, meaning, strict=True))
        return SequenceNode(items=items, span=span, language=Language.TOML, flow=isinstance(entry, Array))

    def _mapping(self, table: _Table, meaning: dict[str, Any]) -> MappingNode:
        items = tuple(
            Item(key=self._key(name, place), value=self._node(entry, meaning[name]))
            for name, (place, entry) in table.items.items()
        )
        span = Span(table.start, max(table.start, table.end))
        return MappingNode(items=items, span=span, language=Language.TOML, flow=table.flow)

    def _key(self, name: str, place: Span) -> ScalarNode:
        text = self._source.text[place.start : place.end]
        return ScalarNode(value=name, text=text, span=place, language=Language.TOML)

    def _scalar(self, span: Span, meaning: object) -> ScalarNode:
        text = self._source.text[span.start : span.end]
        value: Value
        fixed = None
        if isinstance(meaning, bool | int | float | str):
            value = meaning
        else:
            value, fixed = text, "it is a date"
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            place = self._source.location(span)
            raise DocumentError("an integer beyond 10**30 is not a quantity", location=place)
        if text.startswith(('"""', "'''")):
            fixed = "it is a block of several lines"
        elif isinstance(value, str) and (match := INTERPOLATION.search(value)) is not None:
            fixed = f"it contains {match.group()}, which another program fills in"
        return ScalarNode(value=value, text=text, span=span, language=Language.TOML, fixed=fixed)
