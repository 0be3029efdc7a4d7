"""Concrete syntax trees of programs, with places in characters instead of bytes."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

from memplan.documents.source import BOM, Source
from memplan.documents.tree import Language
from memplan.domain.edit import Span

if TYPE_CHECKING:
    from tree_sitter import Node

_WIDE = re.compile("[^\x00-\x7f]")


class Syntax:
    """A parsed program. Parsing never fails: what the grammar cannot read becomes error nodes."""

    def __init__(self, source: Source, language: Language) -> None:
        from tree_sitter import Language as Grammar
        from tree_sitter import Parser

        self.source = source
        self.language = language
        self._shift = 1 if source.text.startswith(BOM) else 0
        text = source.text[self._shift :]
        self.lines = text.split("\n")
        self._wide_at: list[int] = []
        self._wide_extra: list[int] = []
        self._index(text)
        self._tree = Parser(Grammar(_grammar(language))).parse(text.encode("utf-8", "surrogatepass"))

    @property
    def root(self) -> Node:
        """The whole file."""
        return self._tree.root_node

    def span(self, node: Node) -> Span:
        """The characters of a node."""
        return Span(self._offset(node.start_byte), self._offset(node.end_byte))

    def text(self, node: Node) -> str:
        """A node as written."""
        span = self.span(node)
        return self.source.text[span.start : span.end]

    def errors(self) -> tuple[Span, ...]:
        """Where the grammar could not follow the text: the outermost places, in order."""
        return tuple(self.span(node) for node in _errors(self.root))

    def _index(self, text: str) -> None:
        """Remember, behind every character of several bytes, how far bytes have run ahead."""
        extra = 0
        for match in _WIDE.finditer(text):
            width = len(match.group().encode("utf-8", "surrogatepass"))
            self._wide_at.append(match.start() + extra + width)
            extra += width - 1
            self._wide_extra.append(extra)

    def _offset(self, byte: int) -> int:
        passed = bisect_right(self._wide_at, byte)
        return byte - (self._wide_extra[passed - 1] if passed else 0) + self._shift


def _grammar(language: Language) -> object:
    if language is Language.PYTHON:
        import tree_sitter_python

        return tree_sitter_python.language()
    import tree_sitter_cpp

    return tree_sitter_cpp.language()


def _errors(root: Node) -> Iterator[Node]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.is_error or node.is_missing:
            yield node
        elif node.has_error:
            waiting.extend(reversed(node.children))
