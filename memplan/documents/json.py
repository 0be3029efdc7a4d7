"""JSON with the place of every value.

The standard library's reader tells no places and PyYAML refuses JSON indented with tabs, so this is
a small scanner of RFC 8259, plus the ``NaN`` and ``Infinity`` that Python writes and model configs
on the hub hold. Nesting is limited, so recursion is safe.
"""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

from memplan.documents.source import BOM, Source
from memplan.documents.tree import (
    DEEPEST,
    LARGEST_INTEGER,
    Item,
    Language,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    Value,
    fix_duplicates,
)
from memplan.documents.yaml_values import INTERPOLATION
from memplan.domain.edit import Span
from memplan.domain.errors import DocumentError

_SPACE = re.compile(r"[ \t\r\n]*")
# No look-ahead within a possessive group: before 3.11.5 Python does not match one (gh-106052).
_COMMENT = r"/\*[^*]*+\*++(?:[^/*][^*]*+\*++)*/"
_SPACE_AND_COMMENTS = re.compile(rf"(?:[ \t\r\n]++|//[^\r\n]*+|#[^\r\n]*+|{_COMMENT})*")
_PIECE = re.compile(r'[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}')
_STRING = re.compile(rf'"(?:{_PIECE.pattern})*+"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"-?[A-Za-z_][A-Za-z0-9_]*")
_CONSTANTS: dict[str, Value] = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}
_LONGEST_NUMBER = 400


def parse(source: Source, *, comments: bool = False) -> Node:
    """Read a JSON file.

    Args:
        comments: take comments (``//``, ``/* */``, ``#``) and commas behind the last value, as Hjson does,
            with which DeepSpeed reads its config (``DeepSpeedConfig``, deepspeed/runtime/config.py, 0.19.8).

    Raises:
        DocumentError: the text is not JSON, a number is beyond 10**30 or beyond floating point, or
            values are nested more than 100 deep.
    """
    scanner = _Scanner(source, comments)
    start = 1 if source.text.startswith(BOM) else 0
    node, at = scanner.value(scanner.skip(start), 0)
    if (at := scanner.skip(at)) < len(source.text):
        scanner.fail("more text follows the JSON value", at, "the end of the file")
    return node


class _Scanner:
    """Reads values at offsets of one text; every method returns the offset behind what it read."""

    def __init__(self, source: Source, comments: bool) -> None:
        self._source = source
        self._text = source.text
        self._comments = comments
        self._space = _SPACE_AND_COMMENTS if comments else _SPACE

    def fail(self, message: str, at: int, expected: str | None = None, hint: str | None = None) -> NoReturn:
        """Raise an error at an offset."""
        location = self._source.location(min(at, len(self._text)))
        raise DocumentError(f"not valid JSON: {message}", location=location, expected=expected, hint=hint)

    def skip(self, at: int) -> int:
        """The next offset that is neither white space nor, where they are taken, comment."""
        match = self._space.match(self._text, at)
        return match.end() if match else at

    def value(self, at: int, depth: int) -> tuple[Node, int]:
        """A value of any kind."""
        char = self._text[at : at + 1]
        if char in ("{", "["):
            if depth >= DEEPEST:
                self.fail("values are nested more than 100 deep", at)
            return self._mapping(at, depth + 1) if char == "{" else self._sequence(at, depth + 1)
        if char == '"':
            return self._string(at)
        if char.isdigit() or (char == "-" and self._text[at + 1 : at + 2].isdigit()):
            return self._number(at)
        return self._constant(at)

    def _mapping(self, start: int, depth: int) -> tuple[MappingNode, int]:
        items: list[Item] = []
        at = self.skip(start + 1)
        while self._text[at : at + 1] != "}":
            if items and self._text.startswith("}", at := self._comma(at, "}")):
                break
            if self._text[at : at + 1] != '"':
                self._not_a_key(at)
            key, at = self._string(at)
            at = self.skip(at)
            if self._text[at : at + 1] != ":":
                self.fail(f"no ':' follows the key {key.text}", at, "':'")
            value, at = self.value(self.skip(at + 1), depth)
            items.append(Item(key=key, value=value))
            at = self.skip(at)
        span = Span(start, at + 1)
        return MappingNode(
            items=fix_duplicates(tuple(items)), span=span, language=Language.JSON, flow=True
        ), at + 1

    def _sequence(self, start: int, depth: int) -> tuple[SequenceNode, int]:
        items: list[Node] = []
        at = self.skip(start + 1)
        while self._text[at : at + 1] != "]":
            if items and self._text.startswith("]", at := self._comma(at, "]")):
                break
            value, at = self.value(at, depth)
            items.append(value)
            at = self.skip(at)
        return SequenceNode(
            items=tuple(items), span=Span(start, at + 1), language=Language.JSON, flow=True
        ), at + 1

    def _comma(self, at: int, closer: str) -> int:
        if self._text[at : at + 1] != ",":
            self.fail(
                "the file ends here" if at >= len(self._text) else "two values without a comma",
                at,
                f"',' or '{closer}'",
            )
        after = self.skip(at + 1)
        if self._text[after : after + 1] == closer and not self._comments:
            self.fail("a comma follows the last value", at, f"'{closer}'", "remove the comma")
        return after

    def _not_a_key(self, at: int) -> NoReturn:
        char = self._text[at : at + 1]
        hint = "write keys in double quotes" if char.isalpha() or char in ("'", "_") else None
        if char in ("/", "#"):
            hint = "remove the comment: JSON has none"
        self.fail(
            "no key stands here" if char else "the file ends inside an object",
            at,
            "a key in double quotes",
            hint,
        )

    def _string(self, at: int) -> tuple[ScalarNode, int]:
        match = _STRING.match(self._text, at)
        if match is None:
            self._bad_string(at)
        raw = match.group()
        value = json.loads(raw) if "\\" in raw else raw[1:-1]
        if "\\" in raw and any("\ud800" <= char <= "\udfff" for char in value):
            self.fail("half of a surrogate pair is not a character", at)
        found = INTERPOLATION.search(value)
        fixed = f"it contains {found.group()}, which another program fills in" if found else None
        return self._node(value, match.span(), fixed), match.end()

    def _bad_string(self, at: int) -> NoReturn:
        end = at + 1
        while piece := _PIECE.match(self._text, end):
            end = piece.end()
        if self._text[end : end + 1] == "\\":
            self.fail("no such escape in a string", end, r"one of \" \\ \/ \b \f \n \r \t \uXXXX")
        if end >= len(self._text) or self._text[end] in "\r\n":
            self.fail("the string has no closing quote", at)
        self.fail("a control character stands in a string", end)

    def _number(self, at: int) -> tuple[ScalarNode, int]:
        match = _NUMBER.match(self._text, at)
        if match is None:
            self.fail("this is not a number", at)
        raw = match.group()
        if (following := self._text[match.end() : match.end() + 1]) and (
            following.isalnum() or following in "._"
        ):
            self.fail("this is not a number", at, "digits without leading zeros, such as 12 or 1.5e-3")
        whole = match.group(1) is None and match.group(2) is None
        if len(raw) > _LONGEST_NUMBER or (whole and abs(int(raw)) > LARGEST_INTEGER):
            self.fail("an integer beyond 10**30 is not a quantity" if whole else "the number is too long", at)
        number = int(raw) if whole else float(raw)
        if not whole and not math.isfinite(number):
            self.fail(f"{raw} is larger than floating point can hold", at)
        return self._node(number, match.span(), None), match.end()

    def _constant(self, at: int) -> tuple[ScalarNode, int]:
        match = _WORD.match(self._text, at)
        if match is None or match.group() not in _CONSTANTS:
            self._not_a_value(at)
        value = _CONSTANTS[match.group()]
        return self._node(value, match.span(), None), match.end()

    def _not_a_value(self, at: int) -> NoReturn:
        char = self._text[at : at + 1]
        if not char:
            self.fail(
                "the file is empty" if not self._text.strip(BOM + " \t\r\n") else "the file ends here",
                at,
                "a value",
            )
        hint = {
            "'": "use double quotes",
            "/": "remove the comment: JSON has none",
            "#": "remove the comment: JSON has none",
        }
        word = "put texts in double quotes; render a template first" if char.isalpha() else None
        expected = "a string, number, object, list, true, false or null"
        self.fail("no value stands here", at, expected, hint.get(char, word))

    def _node(self, value: Value, span: tuple[int, int], fixed: str | None) -> ScalarNode:
        start, end = span
        return ScalarNode(
            value=value,
            text=self._text[start:end],
            span=Span(start, end),
            language=Language.JSON,
            fixed=fixed,
        )
