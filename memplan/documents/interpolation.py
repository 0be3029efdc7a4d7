"""Interpolations of OmegaConf: ``${model.width}`` stands for a value written elsewhere in the file.

What the file itself answers is read and marked as not editable here; what another file, the environment
or a function of the program has to answer keeps its text, and its mark says who answers
(``InterpolationResolver`` in omegaconf/base.py and the built-in functions in omegaconf/resolvers, 2.4.0).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import replace

from memplan.documents.source import Source
from memplan.documents.tree import Item, MappingNode, Node, ScalarNode, SequenceNode, Value, fix

LARGEST_EXPANSION = 100_000
"""Values that interpolations may add to a document."""

_LONGEST_TEXT = 4096
_MOST_OPEN = 50  # nodes on the way to an interpolation, and on from there: a chain of them recurses
_REFERENCE = re.compile(
    r"(?<!\\)\$\{\s*+(oc\.select:\s*+)?+(\.*+[^\s${}:,.\[\]][^\s${}:,]*+|\.++)\s*+(,[^${}]*+)?\}"
)
_ENVIRONMENT = re.compile(r"\$\{\s*+oc\.env:\s*+([^\s,}]+)")
_FUNCTION = re.compile(r"\$\{\s*+([A-Za-z_][A-Za-z0-9_.]*+)\s*+:")
_LINE_END = re.compile(r"\r\n|\n|\r")
_STEP = re.compile(r"[^.\[\]]+")

_Path = tuple[Value, ...]


def resolved(source: Source, root: Node) -> Node:
    """The tree with every interpolation that the file answers replaced by its answer."""
    return _Resolution(source, root).node((), root)


class _Resolution:
    """One pass over a tree; a path is the steps from the root to a node."""

    def __init__(self, source: Source, root: Node) -> None:
        self._source = source
        self._root = root
        self._left = LARGEST_EXPANSION
        self._lines: list[int] = []
        self._done: dict[_Path, Node] = {}
        self._open: set[_Path] = set()
        self._indexes: dict[int, dict[str, Item]] = {}

    def node(self, path: _Path, node: Node) -> Node:
        """A node with the interpolations in and below it resolved."""
        if path in self._done:
            return self._done[path]
        self._open.add(path)
        found = self._resolved(path, node)
        self._open.discard(path)
        self._done[path] = found
        return found

    def _resolved(self, path: _Path, node: Node) -> Node:
        if isinstance(node, ScalarNode):
            mentions = isinstance(node.value, str) and "${" in node.value
            return self._scalar(path, node, str(node.value)) if mentions else node
        if isinstance(node, SequenceNode):
            parts = enumerate(node.items)
            return replace(node, items=tuple(self.node((*path, number), item) for number, item in parts))
        counting = self._index(node).values()
        only = {id(item) for item in counting}  # of several equal keys the last counts, and has a path
        items = tuple(
            replace(item, value=self.node((*path, item.key.value), item.value)) if id(item) in only else item
            for item in node.items
        )
        return replace(node, items=items)

    def _index(self, mapping: MappingNode) -> dict[str, Item]:
        """The items of a mapping by their keys as an interpolation spells them."""
        if id(mapping) not in self._indexes:
            self._indexes[id(mapping)] = {str(item.key.value): item for item in mapping.items}
        return self._indexes[id(mapping)]

    def _scalar(self, path: _Path, node: ScalarNode, text: str) -> Node:
        whole = _REFERENCE.fullmatch(text)
        if whole is not None:
            target = self._target(path, whole)
            if target is None:
                return self._unresolved(node, text)
            reason = f"it is {text}, which stands for what line {self._line(path, whole)} says"
            if isinstance(target, ScalarNode):
                return replace(node, value=target.value, fixed=reason)
            return replace(fix(target, reason), span=node.span, fixed=reason)
        targets = [self._target(path, match) for match in _REFERENCE.finditer(text)]
        values = [target.value for target in targets if isinstance(target, ScalarNode)]
        pieces = _REFERENCE.split(text)[:: _REFERENCE.groups + 1]
        if len(values) < len(targets) or any("${" in piece for piece in pieces):
            return self._unresolved(node, text)
        filled = pieces[0] + "".join(f"{value}{rest}" for value, rest in zip(values, pieces[1:], strict=True))
        if len(filled) > _LONGEST_TEXT:
            return self._unresolved(node, text)
        return replace(node, value=filled, fixed="it holds ${…}, which stands for values written elsewhere")

    def _target(self, path: _Path, match: re.Match[str]) -> Node | None:
        """The node an interpolation means, resolved; None when the file has none, or it means itself."""
        steps, found = self._find(path, match)
        if found is None or len(self._open) > _MOST_OPEN or steps in self._open:
            return None
        node = self.node(steps, found)
        self._left -= _size(node, self._left)
        unanswered = isinstance(node, ScalarNode) and isinstance(node.value, str) and "${" in node.value
        return None if self._left <= 0 or unanswered else node

    def _find(self, path: _Path, match: re.Match[str]) -> tuple[_Path, Node | None]:
        """The place an interpolation at a path names, and the node there as it is written.

        One dot before the name means the mapping the value is in, two the one around that.
        """
        text = match[2]
        up = len(text) - len(text.lstrip("."))
        if up > len(path) or (match[3] is not None and match[1] is None):
            return (), None
        steps: _Path = ()
        node: Node = self._root
        for step in (*(path[:-up] if up else ()), *_STEP.findall(text)):
            if isinstance(node, MappingNode) and (item := self._index(node).get(str(step))) is not None:
                steps, node = (*steps, item.key.value), item.value
            elif isinstance(node, SequenceNode) and str(step).isdecimal() and int(step) < len(node.items):
                steps, node = (*steps, int(step)), node.items[int(step)]
            else:
                return (), None
        return steps, node

    def _line(self, path: _Path, match: re.Match[str]) -> int:
        """The line of what an interpolation names, found without counting from the top every time."""
        _, node = self._find(path, match)
        if not self._lines:
            self._lines = [0, *(match.end() for match in _LINE_END.finditer(self._source.text))]
        return bisect_right(self._lines, 0 if node is None else node.span.start)

    def _unresolved(self, node: ScalarNode, text: str) -> ScalarNode:
        if (match := _ENVIRONMENT.search(text)) is not None:
            return replace(node, fixed=f"it comes from the environment variable {match[1]}")
        if (match := _FUNCTION.search(text)) is not None:
            return replace(node, fixed=f"it is computed by {match[1]} when the program starts")
        return replace(node, fixed="it holds ${…}, which this file does not answer")


def _size(node: Node, enough: int) -> int:
    """How many values a node holds; counting stops where there are enough."""
    count, waiting = 0, [node]
    while waiting and count < enough:
        current = waiting.pop()
        count += 1
        if isinstance(current, MappingNode):
            waiting.extend(item.value for item in current.items)
        elif isinstance(current, SequenceNode):
            waiting.extend(current.items)
    return count
