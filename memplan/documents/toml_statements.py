"""The lines of a TOML file: where every header, key and value stands, before anyone asks what they mean.

The standard library's reader says what a file means but not where; this scanner says where. It is
no judge of the grammar: what it lets through is read by the library as well, which refuses it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from memplan.documents.source import Source
from memplan.documents.tree import DEEPEST
from memplan.domain.edit import Span
from memplan.domain.errors import DocumentError

LARGEST_DOCUMENT = 100_000
"""Tables and values; a config has hundreds."""

_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*+")
_BLANK = re.compile(r"[ \t]*+")
_LINE_REST = re.compile(r"[ \t]*+(?:#[^\n]*)?+(?:\r?\n|\Z)")
_SEGMENT = re.compile(r'[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\[^\n])*+"|' + r"'[^'\n]*+'")
# No look-ahead within a possessive group: before 3.11.5 Python does not match one (gh-106052).
_SCALAR = re.compile(
    r'"""(?:[^"\\]++|\\[\s\S]|"{1,2}+(?!"))*"{3,5}+'
    r"|'''(?:[^']++|'{1,2}+(?!'))*'{3,5}+"
    r'|"(?:[^"\\\n]|\\[^\n])*+"'
    r"|'[^'\n]*+'"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[^\s,\]}#]++"
    r"|[^\s,\[\]{}#=\"']++"
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as written."""

    span: Span


@dataclass(frozen=True, slots=True)
class Array:
    """Values in brackets."""

    span: Span
    items: tuple[Raw, ...]


@dataclass(frozen=True, slots=True)
class Inline:
    """Pairs in braces."""

    span: Span
    pairs: tuple[Pair, ...]


Raw = Scalar | Array | Inline


@dataclass(frozen=True, slots=True)
class Pair:
    """``key = value``; the key's segments were separated by dots."""

    key: tuple[Span, ...]
    value: Raw


@dataclass(frozen=True, slots=True)
class Header:
    """``[key]``, or ``[[key]]`` for one more table of an array."""

    key: tuple[Span, ...]
    span: Span
    array: bool


def statements(source: Source) -> tuple[Header | Pair, ...]:
    """The statements of a file, in order.

    Raises:
        DocumentError: no statement, key or value stands where one has to, values are nested more than
            100 deep, or the file holds more than 100,000 of them.
    """
    scanner = _Scanner(source)
    found: list[Header | Pair] = []
    at = scanner.gap(0)
    while at < len(source.text):
        statement, at = scanner.header(at) if source.text[at] == "[" else scanner.pair(at, 0)
        found.append(statement)
        at = scanner.gap(scanner.line_rest(at))
    return tuple(found)


class _Scanner:
    """Reads at offsets of one text; methods return what they read and the offset behind it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._text = source.text
        self._count = 0

    def gap(self, at: int) -> int:
        """The next offset that is neither white space nor comment."""
        match = _GAP.match(self._text, at)
        return match.end() if match else at

    def line_rest(self, at: int) -> int:
        """The start of the next line, when only a comment is left of this one."""
        match = _LINE_REST.match(self._text, at)
        if match is None:
            self._fail("more text follows the value", self._blank(at), "the end of the line")
        return match.end()

    def header(self, start: int) -> tuple[Header, int]:
        """A table's header."""
        self._counted(start)
        array = self._text.startswith("[[", start)
        key, at = self._key(start + 1 + array)
        close = "]]" if array else "]"
        if not self._text.startswith(close, at):
            self._fail("the header of a table does not end here", at, f"'{close}'")
        end = at + len(close)
        return Header(key, Span(start, end), array), end

    def pair(self, at: int, depth: int) -> tuple[Pair, int]:
        """A key with its value."""
        key, at = self._key(at)
        if self._text[at : at + 1] != "=":
            self._fail("no '=' follows the key", at, "'='")
        value, at = self._value(self._blank(at + 1), depth + 1)
        return Pair(key, value), at

    def _key(self, at: int) -> tuple[tuple[Span, ...], int]:
        """The segments of a key, and the offset behind it and the blanks after it."""
        segments = []
        while True:
            match = _SEGMENT.match(self._text, self._blank(at))
            if match is None:
                self._fail("no key stands here", self._blank(at), "a name, or a text in quotes")
            segments.append(Span(*match.span()))
            if len(segments) > DEEPEST:
                self._fail("values are nested more than 100 deep", match.start())
            at = self._blank(match.end())
            if self._text[at : at + 1] != ".":
                return tuple(segments), at
            at += 1

    def _value(self, at: int, depth: int) -> tuple[Raw, int]:
        self._counted(at)
        if depth > DEEPEST:
            self._fail("values are nested more than 100 deep", at)
        char = self._text[at : at + 1]
        if char == "[":
            return self._array(at, depth)
        if char == "{":
            return self._inline(at, depth)
        match = _SCALAR.match(self._text, at)
        if match is None:
            self._fail("no value stands here", at, "a string, number, date, array, table, true or false")
        return Scalar(Span(*match.span())), match.end()

    def _array(self, start: int, depth: int) -> tuple[Array, int]:
        items: list[Raw] = []
        at = self.gap(start + 1)
        while self._text[at : at + 1] != "]":
            value, at = self._value(at, depth + 1)
            items.append(value)
            at = self._comma(at, "]")
        return Array(Span(start, at + 1), tuple(items)), at + 1

    def _inline(self, start: int, depth: int) -> tuple[Inline, int]:
        pairs: list[Pair] = []
        at = self.gap(start + 1)
        while self._text[at : at + 1] != "}":
            pair, at = self.pair(at, depth)
            pairs.append(pair)
            at = self._comma(at, "}")
        return Inline(Span(start, at + 1), tuple(pairs)), at + 1

    def _comma(self, at: int, close: str) -> int:
        at = self.gap(at)
        if self._text[at : at + 1] == ",":
            return self.gap(at + 1)
        if self._text[at : at + 1] != close:
            self._fail("no comma follows the value", at, f"',' or '{close}'")
        return at

    def _counted(self, at: int) -> None:
        self._count += 1
        if self._count > LARGEST_DOCUMENT:
            self._fail(f"the file holds more than {LARGEST_DOCUMENT:,} values", at, "a config, not data")

    def _blank(self, at: int) -> int:
        match = _BLANK.match(self._text, at)
        return match.end() if match else at

    def _fail(self, message: str, at: int, expected: str | None = None) -> NoReturn:
        location = self._source.location(min(at, len(self._text)))
        raise DocumentError(f"not valid TOML: {message}", location=location, expected=expected)
