"""Nodes of a parsed document: ordinary values that know their place in the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from memplan.documents.source import Source
from memplan.domain.edit import Span

Value = str | int | float | bool | None
"""What a scalar can hold."""

DEEPEST = 100
"""Levels of nesting that are read; real configs have fewer than ten."""

LARGEST_INTEGER = 10**30
"""A larger integer is a slip of the keyboard: no quantity in a training config comes near."""


class Language(Enum):
    """The language a node was written in, which decides how a new value is spelled."""

    YAML = "YAML"
    JSON = "JSON"
    TOML = "TOML"
    PYTHON = "Python"
    CPP = "C++"
    MODELFILE = "a Modelfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarNode:
    """One value.

    Attributes:
        value: the value as the language's usual reader gives it; dates stay text, and an expression
            in a program is its own text.
        text: the characters of the value as written, with quotes.
        span: where the text stands, without anchor and tag; empty for a key without a value.
        fixed: why the value must not be edited, as a clause after "because"; None when it may be.
    """

    value: Value
    text: str
    span: Span
    language: Language
    fixed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A key with its value; ``merged`` when it came into the mapping through a YAML merge key."""

    key: ScalarNode
    value: Node
    merged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingNode:
    """Keys with values, in order: what merge keys bring first, then what is written, duplicates kept.

    Attributes:
        flow: written with braces.
        fixed: why nothing below may be edited or inserted; None when it may be.
    """

    items: tuple[Item, ...]
    span: Span
    language: Language
    flow: bool = False
    fixed: str | None = None

    def get(self, key: Value) -> Node | None:
        """The value of a key, the last one where it occurs several times; None when it is absent."""
        item = self.item(key)
        return None if item is None else item.value

    def item(self, key: Value) -> Item | None:
        """The key with its value, the last one where it occurs several times."""
        return next((item for item in reversed(self.items) if item.key.value == key), None)

    def line(self, key: str, source: Source) -> int | None:
        """The 1-based line of a key, or None when it is absent."""
        item = self.item(key)
        return None if item is None else source.line(item.key.span)

    def keys(self) -> tuple[str, ...]:
        """The distinct textual keys, in order."""
        return tuple(dict.fromkeys(item.key.value for item in self.items if isinstance(item.key.value, str)))

    @property
    def duplicates(self) -> tuple[ScalarNode, ...]:
        """Keys written again in this mapping, in order; overriding a merged key is no repetition."""
        seen: set[Value] = set()
        repeated = []
        for item in self.items:
            if item.merged:
                continue
            if item.key.value in seen:
                repeated.append(item.key)
            seen.add(item.key.value)
        return tuple(repeated)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceNode:
    """Values in order; ``flow`` when written with brackets."""

    items: tuple[Node, ...]
    span: Span
    language: Language
    flow: bool = False
    fixed: str | None = None


Node = ScalarNode | MappingNode | SequenceNode


def plain(node: Node) -> Any:
    """The node as ordinary dicts, lists and scalars; the last of several equal keys wins."""
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.items]
    return {item.key.value: plain(item.value) for item in node.items}


def scalars(node: Node) -> Iterator[ScalarNode]:
    """Every value below a node, keys left out, in order."""
    if isinstance(node, ScalarNode):
        yield node
        return
    for item in node.items:
        yield from scalars(item.value if isinstance(item, Item) else item)


def duplicate_keys(node: Node) -> tuple[ScalarNode, ...]:
    """The repeated keys of a whole tree, in order."""
    if isinstance(node, ScalarNode):
        return ()
    found = list(node.duplicates) if isinstance(node, MappingNode) else []
    for item in node.items:
        found += duplicate_keys(item.value if isinstance(item, Item) else item)
    return tuple(found)


def fix(node: Node, reason: str) -> Node:
    """The node and everything below it marked as not editable; a reason that is there stays."""
    if node.fixed is not None:
        return node
    if isinstance(node, ScalarNode):
        return replace(node, fixed=reason)
    if isinstance(node, SequenceNode):
        return replace(node, items=tuple(fix(item, reason) for item in node.items), fixed=reason)
    items = tuple(replace(item, value=fix(item.value, reason)) for item in node.items)
    return replace(node, items=items, fixed=reason)


def fix_duplicates(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The items of a mapping with the values of every repeated key marked as not editable."""
    counts: dict[Value, int] = {}
    for item in items:
        if not item.merged:
            counts[item.key.value] = counts.get(item.key.value, 0) + 1
    if len(counts) == len(items):
        return items
    return tuple(
        replace(
            item, value=fix(item.value, f"the key {item.key.text} is written {counts[item.key.value]} times")
        )
        if not item.merged and counts[item.key.value] > 1
        else item
        for item in items
    )
