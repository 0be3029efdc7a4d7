"""YAML with the place of every value: one tokenizer, and the types of the framework's own reader.

We take the parser's events rather than composed nodes: composing recurses, hides which keys were
aliases, and expands merge keys without a limit. libyaml's events are used where PyYAML was built
with it; their spans equal the pure Python ones except for values that are empty, which are put
right here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol

from memplan.documents.source import BOM, Source
from memplan.documents.tree import DEEPEST, Language, Node, ScalarNode, duplicate_keys
from memplan.documents.yaml_nodes import TEMPLATE_ADVICE, Builder
from memplan.documents.yaml_resolvers import Resolver
from memplan.documents.yaml_values import read_scalar, unknown_tag
from memplan.domain.edit import Span
from memplan.domain.errors import DocumentError

_PROPERTY = re.compile(r"(?:(?:[&!][^\s,\[\]{}]*|!<[^>\s]*>)|\s+|(?<=\s)\#[^\r\n]*)")
_OUTER = 2  # the stream and the document are events of their own

LARGEST_DOCUMENT = 500_000
"""Values and collections; a config has hundreds, and each costs half a kilobyte while it is read."""


class _Loader(Protocol):
    """The part of a PyYAML loader that is used."""

    def check_event(self) -> bool: ...
    def get_event(self) -> Any: ...
    def dispose(self) -> None: ...


def parse(source: Source, *, resolver: Resolver = Resolver.PYYAML) -> Node:
    """Read the one document of a YAML file; an empty file is a null that cannot be edited.

    Args:
        resolver: whose rules say which type a text has, and whether a key may be repeated.

    Raises:
        DocumentError: the text is not YAML, holds several documents, a tag that is not plain YAML,
            a key that is not a scalar, a number beyond 10**30 or beyond floating point, nesting
            deeper than 100, or aliases that multiply without bound.
    """
    found = _read(source, resolver, one=True)
    return found[0] if found else _empty(source)


def parse_all(source: Source, *, resolver: Resolver = Resolver.PYYAML) -> tuple[Node, ...]:
    """Read every document of a YAML file, in order; a file without any gives none.

    Raises:
        DocumentError: as in ``parse``, but there may be several documents.
    """
    return _read(source, resolver, one=False)


def _read(source: Source, resolver: Resolver, *, one: bool) -> tuple[Node, ...]:
    import yaml

    shift = 1 if source.text.startswith(BOM) else 0
    text = source.text[shift:]
    if (bad := yaml.reader.Reader.NON_PRINTABLE.search(text)) is not None:
        raise DocumentError(
            f"character U+{ord(bad.group()):04X} is not allowed in YAML",
            location=source.location(shift + bad.start()),
        )
    loader_class: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader = loader_class(text)
    try:
        found = _Reading(source, shift, loader, resolver).documents(one=one)
    except yaml.YAMLError as error:
        raise _malformed(source, shift, error) from None
    finally:
        loader.dispose()
    if resolver.refuses_duplicates:
        _refuse_duplicates(source, found, resolver)
    return found


def _empty(source: Source) -> Node:
    end = len(source.text)
    return ScalarNode(
        value=None, text="", span=Span(end, end), language=Language.YAML, fixed="the file is empty"
    )


def _refuse_duplicates(source: Source, found: tuple[Node, ...], resolver: Resolver) -> None:
    for repeated in (key for node in found for key in duplicate_keys(node)):
        raise DocumentError(
            f"the key {repeated.text} is written twice, which {resolver.value} refuses",
            location=source.location(repeated.span),
            hint="keep one of the two",
        )


class _Reading:
    """One pass over the events of one file."""

    def __init__(self, source: Source, shift: int, loader: _Loader, resolver: Resolver) -> None:
        self._source = source
        self._shift = shift
        self._loader = loader
        self._resolver = resolver

    def documents(self, *, one: bool) -> tuple[Node, ...]:
        """The nodes of all documents; of one, after making sure that any other is empty."""
        found: list[list[Any]] = []
        for event in self._events():
            if type(event).__name__ == "DocumentStartEvent":
                found.append([])
            if found:
                found[-1].append(event)
        if one:
            for events in found[1:]:
                self._refuse_second(events)
        return tuple(self._build(events) for events in (found[:1] if one else found))

    def _events(self) -> Iterator[Any]:
        depth = 0
        for count, event in enumerate(self._stream()):
            kind = type(event).__name__
            depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
            if depth > DEEPEST + _OUTER:
                raise DocumentError(
                    "values are nested more than 100 deep",
                    location=self._source.location(event.start_mark.index + self._shift),
                )
            if count > LARGEST_DOCUMENT:
                raise DocumentError(
                    f"the file holds more than {LARGEST_DOCUMENT:,} values",
                    location=self._source.location(event.start_mark.index + self._shift),
                    expected="a config, not data",
                )
            yield event

    def _stream(self) -> Iterator[Any]:
        while self._loader.check_event():
            yield self._loader.get_event()

    def _refuse_second(self, events: list[Any]) -> None:
        start = events[0].start_mark.index + self._shift
        for event in events:
            kind = type(event).__name__
            if kind in ("MappingStartEvent", "SequenceStartEvent", "AliasEvent") or (
                kind == "ScalarEvent" and (event.value or event.style)
            ):
                raise DocumentError(
                    "the file holds several YAML documents",
                    location=self._source.location(Span(start, start + 3)),
                    expected="one document",
                    hint="put the config in a file of its own",
                )

    def _build(self, events: list[Any]) -> Node:
        builder = Builder(self._source, _used_anchors(events))
        for number, event in enumerate(events):
            kind = type(event).__name__
            if kind == "ScalarEvent":
                builder.add(self._scalar(event), anchor=event.anchor, number=number)
            elif kind in ("MappingStartEvent", "SequenceStartEvent"):
                start = self._after_properties(event)
                self._check_collection_tag(event, kind, start)
                builder.open(
                    start,
                    mapping=kind == "MappingStartEvent",
                    flow=bool(event.flow_style),
                    anchor=event.anchor,
                    number=number,
                )
            elif kind in ("MappingEndEvent", "SequenceEndEvent"):
                builder.close(event.end_mark.index + self._shift)
            elif kind == "AliasEvent":
                start, end = event.start_mark.index + self._shift, event.end_mark.index + self._shift
                builder.alias(event.anchor, Span(start, end))
        return builder.result()

    def _scalar(self, event: Any) -> ScalarNode:
        text = self._source.text
        start = self._after_properties(event)
        end = event.end_mark.index + self._shift
        if not event.style and not event.value:
            while end > 0 and text[end - 1] in " \t":
                end -= 1
            start = end
        elif event.style in ("|", ">"):
            end = _block_end(text, start, end, event.value)
        return read_scalar(self._source, self._loader, event, Span(min(start, end), end), self._resolver)

    def _after_properties(self, event: Any) -> int:
        """Where the value itself begins: an event's own mark includes the anchor and the tag."""
        start: int = event.start_mark.index + self._shift
        if event.anchor is None and event.tag is None:
            return start
        end = max(event.end_mark.index + self._shift, start + 1)
        if not type(event).__name__.startswith("Scalar"):
            end = len(self._source.text)
        while start < end and (match := _PROPERTY.match(self._source.text, start)) is not None:
            start = match.end()
        return start

    def _check_collection_tag(self, event: Any, kind: str, start: int) -> None:
        usual = "tag:yaml.org,2002:map" if kind == "MappingStartEvent" else "tag:yaml.org,2002:seq"
        if event.tag not in (None, "!", usual):
            raise unknown_tag(self._source, event.tag, Span(event.start_mark.index + self._shift, start))


def _used_anchors(events: list[Any]) -> frozenset[int]:
    """Numbers of the events whose anchor some alias refers to; a later anchor hides an earlier one."""
    current: dict[str, int] = {}
    used = set()
    for number, event in enumerate(events):
        anchor = getattr(event, "anchor", None)
        if anchor is None:
            continue
        if type(event).__name__ == "AliasEvent":
            if anchor in current:
                used.add(current[anchor])
        else:
            current[anchor] = number
    return frozenset(used)


def _block_end(text: str, start: int, end: int, value: str) -> int:
    """The end of a block scalar's content; blank lines behind it are not, unless kept."""
    header = text[start:end].split("\n", 1)[0].split("#", 1)[0]
    if "+" in header or value.rstrip("\n") != value.rstrip():
        return end
    return start + len(text[start:end].rstrip())


def _malformed(source: Source, shift: int, error: Exception) -> DocumentError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    offset = min(mark.index + shift, len(source.text)) if mark is not None else 0
    problem = getattr(error, "problem", None) or "it cannot be read"
    context = getattr(error, "context", None)
    message = f"not valid YAML: {problem}" + (f" {context}" if context else "")
    return DocumentError(
        message, location=source.location(offset), hint=_advice(source.text, offset, problem)
    )


def _advice(text: str, offset: int, problem: str) -> str | None:
    if "\t" in text[offset : offset + 1] or "'\\t'" in problem:
        return "indent with spaces: YAML does not allow tabs there"
    line = text[text.rfind("\n", 0, offset) + 1 :].split("\n", 1)[0]
    if "{{" in line or "{%" in line:
        return TEMPLATE_ADVICE
    return None
