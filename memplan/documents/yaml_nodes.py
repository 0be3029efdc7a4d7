"""Builds the tree of a YAML document: aliases, merge keys and their limits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from memplan.documents.source import Source
from memplan.documents.tree import (
    DEEPEST,
    Item,
    Language,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    fix,
    fix_duplicates,
)
from memplan.domain.edit import Span
from memplan.domain.errors import DocumentError

LARGEST_EXPANSION = 100_000
"""Values that aliases may add to a document: a config repeats a few dozen, an attack billions."""

TEMPLATE_ADVICE = "render the template first: memplan reads plain YAML"


@dataclass(frozen=True, slots=True)
class _Built:
    """A finished node, how many values it stands for with aliases expanded, and how deep it goes."""

    node: Node
    size: int
    height: int


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been read."""

    start: int
    mapping: bool
    flow: bool
    anchor: str | None
    shared: bool
    children: list[_Built] = field(default_factory=list)


class Builder:
    """Takes values in the order of the text and nests them.

    Args:
        used: the event numbers of anchors that an alias refers to.
    """

    def __init__(self, source: Source, used: frozenset[int]) -> None:
        self._source = source
        self._used = used
        self._open: list[_Open] = []
        self._anchors: dict[str, _Built | None] = {}
        self._expanded = 0
        self._root: Node | None = None

    def result(self) -> Node:
        """The document's node; the parser's grammar makes sure that there is one."""
        assert self._root is not None
        return self._root

    def add(self, node: ScalarNode, *, anchor: str | None, number: int) -> None:
        """A scalar; ``number`` is that of its event."""
        self._finish(_Built(node, 1, 0), anchor, number in self._used)

    def open(self, start: int, *, mapping: bool, flow: bool, anchor: str | None, number: int) -> None:
        """The beginning of a collection."""
        if anchor is not None:
            self._anchors[anchor] = None
        self._open.append(_Open(start, mapping, flow, anchor, number in self._used))

    def close(self, end: int) -> None:
        """The end of the collection that was opened last; ``end`` counts only for flow style."""
        frame = self._open.pop()
        if not frame.flow:
            end = frame.children[-1].node.span.end if frame.children else frame.start
        span = Span(frame.start, max(frame.start, end))
        size = 1 + sum(child.size for child in frame.children)
        height = 1 + max((child.height for child in frame.children), default=0)
        node = self._mapping(frame, span) if frame.mapping else self._sequence(frame, span)
        self._finish(_Built(node, size, height), frame.anchor, frame.shared)

    def alias(self, name: str, span: Span) -> None:
        """A reference to an anchored value: the value again, but not to be edited from here."""
        if name not in self._anchors:
            raise DocumentError(f"no value is anchored as &{name}", location=self._source.location(span))
        built = self._anchors[name]
        if built is None:
            raise DocumentError(
                f"the alias *{name} is inside the value it stands for", location=self._source.location(span)
            )
        self._expanded += built.size
        if self._expanded > LARGEST_EXPANSION:
            raise DocumentError(
                f"aliases stand for more than {LARGEST_EXPANSION:,} values",
                location=self._source.location(span),
            )
        if len(self._open) + built.height > DEEPEST:
            raise DocumentError("values are nested more than 100 deep", location=self._source.location(span))
        reason = f"it is the alias *{name}, which stands for a value written elsewhere"
        if isinstance(built.node, ScalarNode):
            text = self._source.text[span.start : span.end]
            node: Node = replace(built.node, span=span, text=text, fixed=reason)
        else:
            node = replace(built.node, span=span, fixed=reason)
        self._finish(_Built(node, built.size, built.height), None, False)

    def _finish(self, built: _Built, anchor: str | None, shared: bool) -> None:
        if shared:
            reason = f"it is anchored as &{anchor} and used in other places too"
            built = replace(built, node=fix(built.node, reason))
        if anchor is not None:
            self._anchors[anchor] = built
        if self._open:
            self._open[-1].children.append(built)
        elif built.node.span.start == built.node.span.end:
            self._root = fix(built.node, "the file is empty")
        else:
            self._root = built.node

    def _sequence(self, frame: _Open, span: Span) -> SequenceNode:
        items = tuple(child.node for child in frame.children)
        return SequenceNode(items=items, span=span, language=Language.YAML, flow=frame.flow)

    def _mapping(self, frame: _Open, span: Span) -> MappingNode:
        merged: list[Item] = []
        written: list[Item] = []
        for key, value in zip(frame.children[::2], frame.children[1::2], strict=True):
            if not isinstance(key.node, ScalarNode):
                raise DocumentError(
                    "a key must be a plain value",
                    location=self._source.location(key.node.span.start),
                    hint=self._advice(key.node),
                )
            if key.node.text == "<<" and key.node.fixed is None:
                merged += self._merged(value.node)
            else:
                written.append(Item(key=key.node, value=self._written(key.node, value.node)))
        items = tuple(merged) + fix_duplicates(tuple(written))
        return MappingNode(items=items, span=span, language=Language.YAML, flow=frame.flow)

    def _written(self, key: ScalarNode, value: Node) -> Node:
        """The value; fixed when it is empty and no colon stands where it would be written."""
        between = self._source.text[key.span.end : value.span.start]
        if value.span.start < value.span.end or between.lstrip().startswith(":"):
            return value
        return fix(value, "it is not written: only its key is")

    def _advice(self, key: Node) -> str | None:
        start = key.span.start
        template = self._source.text[start - 1 : start + 1] == "{{"
        return TEMPLATE_ADVICE if template else None

    def _merged(self, value: Node) -> list[Item]:
        """The items a merge key brings; of several mappings the first wins, so it comes last."""
        if isinstance(value, MappingNode):
            reason = "it comes in through the merge key <<"
            return [replace(item, value=fix(item.value, reason), merged=True) for item in value.items]
        if isinstance(value, SequenceNode) and all(isinstance(item, MappingNode) for item in value.items):
            return [item for mapping in reversed(value.items) for item in self._merged(mapping)]
        raise DocumentError(
            "the merge key << takes a mapping or a list of mappings",
            location=self._source.location(value.span),
        )
