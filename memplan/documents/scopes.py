"""What surrounds a statement in a program, nearest first.

Programs name the same setting many times (``config.num_outputs`` for every module); what tells one
from another is the comment above it, the string beside it, or the function around it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memplan.documents.syntax import Syntax
from memplan.domain.edit import Span

if TYPE_CHECKING:
    from tree_sitter import Node

_COMMENTS = frozenset(("comment",))
_STRINGS = frozenset(("string_literal", "raw_string_literal", "char_literal", "string", "system_lib_string"))
_NAMES = frozenset(
    ("identifier", "field_identifier", "type_identifier", "namespace_identifier", "statement_identifier")
)
_NOTED = _COMMENTS | _STRINGS | _NAMES
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Mention:
    """A comment, string or name: its text and the rows (from 0) it covers."""

    text: str
    span: Span
    first: int
    last: int


@dataclass(slots=True)
class Layout:
    """The lines of a file: which are blank, and which hold nothing but a comment."""

    lines: list[str]
    comments: dict[int, Mention] = field(default_factory=dict)

    def paragraph(self, first: int, last: int) -> tuple[int, int]:
        """The rows of the group of lines without a blank one around the rows given."""
        while first > 0 and self.lines[first - 1].strip():
            first -= 1
        while last + 1 < len(self.lines) and self.lines[last + 1].strip():
            last += 1
        return first, last

    def comment_above(self, row: int, top: int) -> list[Mention]:
        """The comments on the lines directly above a row, not above ``top``."""
        found = []
        row -= 1
        while row >= top and (comment := self.comments.get(row)) is not None:
            found.append(comment)
            row = comment.first - 1
        return found

    def next_comment_above(self, row: int, top: int) -> int | None:
        """The row of the nearest line above that holds only a comment."""
        return next((above for above in range(row - 1, top - 1, -1) if above in self.comments), None)


@dataclass(slots=True)
class Scope:
    """A block ``{...}`` or an indented suite, and what is mentioned directly in it.

    Attributes:
        header: the text that introduces the block: a function's name, a condition, a class.
        top: the first row of the block and its header.
    """

    parent: Scope | None
    header: Span
    top: int
    mentions: list[Mention] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a statement stands."""

    scope: Scope
    layout: Layout
    key: str
    first: int
    last: int

    def rings(self) -> tuple[tuple[str, ...], ...]:
        """What is mentioned around the statement, from the nearest ring to the farthest.

        In order: the assigned name and the comment directly above; the nearest comment above in the
        paragraph; strings and names from there to the next comment; the paragraph; the nearest
        comment above in the block; the block; then, going outwards, each block's header with the
        comment above it, and the next block.
        """
        found = [self._above(), *self._sections(), tuple(m.text for m in self.scope.mentions)]
        scope = self.scope
        while scope.parent is not None:
            above = self.layout.comment_above(scope.top, scope.parent.top)
            inside = [m for m in scope.parent.mentions if _within(m.span, scope.header)]
            found.append(tuple(m.text for m in above + inside))
            scope = scope.parent
            found.append(tuple(m.text for m in scope.mentions))
        return tuple(found)

    def _above(self) -> tuple[str, ...]:
        return (self.key, *(m.text for m in self.layout.comment_above(self.first, self.scope.top)))

    def _sections(self) -> list[tuple[str, ...]]:
        first, last = self.layout.paragraph(self.first, self.last)
        first = max(first, self.scope.top)
        start = self.layout.next_comment_above(self.first, first)
        end = next((row for row in range(self.last + 1, last + 1) if row in self.layout.comments), last + 1)
        heading = self.layout.next_comment_above(self.first, self.scope.top)
        return [
            self._comments_at(start),
            self._between(first if start is None else start, end - 1),
            self._between(first, last),
            self._comments_at(heading),
        ]

    def _comments_at(self, row: int | None) -> tuple[str, ...]:
        if row is None:
            return ()
        return tuple(m.text for m in self.layout.comment_above(row + 1, self.scope.top))

    def _between(self, first: int, last: int) -> tuple[str, ...]:
        return tuple(m.text for m in self.scope.mentions if first <= m.first and m.last <= last)


def mentions(text: str, word: str) -> bool:
    """Whether a text speaks of a word: ``BrocaModule`` and ``init_broca`` do of ``Broca``."""
    wanted = _words(word)
    if not wanted:
        return word in text
    words = _words(text)
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(_HUMP.sub(" ", text))]


def _within(inner: Span, outer: Span) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def note(syntax: Syntax, layout: Layout, scope: Scope, node: Node) -> bool:
    """Remember a node that is a comment, a string or a name; False when it is none of them."""
    if node.type not in _NOTED:
        return False
    first, last = node.start_point.row, node.end_point.row
    mention = Mention(syntax.text(node), syntax.span(node), first, last)
    scope.mentions.append(mention)
    if node.type in _COMMENTS and layout.lines[first].strip().startswith(("#", "//", "/*")):
        layout.comments.update(dict.fromkeys(range(first, last + 1), mention))
    return True
