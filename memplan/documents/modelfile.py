"""Ollama's Modelfile with the place of every value.

A line is an instruction and its value; a value that opens a quote goes on, over lines, until one ends
with it (``ParseFile`` and ``unquote`` in ollama parser/parser.go, 0.12).
"""

from __future__ import annotations

import re

from memplan.documents.source import BOM, Source
from memplan.documents.tree import (
    LARGEST_INTEGER,
    Item,
    Language,
    MappingNode,
    ScalarNode,
    Value,
    fix_duplicates,
)
from memplan.documents.yaml_values import INTERPOLATION
from memplan.domain.edit import Span
from memplan.domain.errors import DocumentError

INSTRUCTIONS = (
    "from", "license", "template", "system", "adapter", "draft", "renderer", "parser", "parameter",
    "message", "requires",
)  # fmt: skip

_GAP = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*+")
_INSTRUCTION = re.compile(r"([A-Za-z]+)[ \t]+")
_NAME = re.compile(r"([A-Za-z0-9_]+)[ \t]+")
_LINE = re.compile(r"[^\r\n]*")
_CLOSING = {quote: re.compile(quote + r"[ \t]*(?=[\r\n]|\Z)") for quote in ('"', '"""')}
_INTEGER = re.compile(r"[-+]?[0-9]{1,400}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Value] = {"true": True, "false": False}


def parse(source: Source) -> MappingNode:
    """Read a Modelfile: instructions in small letters, with those of PARAMETER in a mapping of their own.

    Raises:
        DocumentError: an instruction is unknown or has no value, a quote is not closed, or a number is
            beyond 10**30.
    """
    return _Scanner(source).document()


class _Scanner:
    """Reads at offsets of one text."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._text = source.text
        self._items: list[Item] = []
        self._parameters: list[Item] = []
        self._first: ScalarNode | None = None

    def document(self) -> MappingNode:
        """The whole file."""
        at = self._gap(1 if self._text.startswith(BOM) else 0)
        end = at
        while at < len(self._text):
            end = self._instruction(at)
            at = self._gap(end)
        items = self._items
        if self._first is not None:
            where = next((n for n, item in enumerate(items) if item.key is self._first))
            span = Span(self._first.span.start, self._parameters[-1].value.span.end)
            node = self._mapping(self._parameters, span)
            items = [*items[:where], Item(key=self._first, value=node), *items[where + 1 :]]
        return self._mapping(items, Span(0, end))

    def _mapping(self, items: list[Item], span: Span) -> MappingNode:
        return MappingNode(items=fix_duplicates(tuple(items)), span=span, language=Language.MODELFILE)

    def _gap(self, at: int) -> int:
        match = _GAP.match(self._text, at)
        return match.end() if match else at

    def _instruction(self, at: int) -> int:
        """Read one instruction; the offset behind it."""
        key, at = self._key(_INSTRUCTION, at, "an instruction with its value, such as FROM llama3.2")
        if key.value not in INSTRUCTIONS:
            raise DocumentError(
                f"no instruction is called {key.text}",
                location=self._source.location(key.span),
                expected=f"one of {', '.join(name.upper() for name in INSTRUCTIONS)}",
            )
        if key.value != "parameter":
            node = self._value(at, typed=False)
            self._items.append(Item(key=key, value=node))
            return node.span.end
        name, at = self._key(_NAME, at, "the name of a parameter with its value, such as num_ctx 4096")
        if self._first is None:
            self._first = key
            self._items.append(Item(key=key, value=name))
        node = self._value(at, typed=True)
        self._parameters.append(Item(key=name, value=node))
        return node.span.end

    def _key(self, pattern: re.Pattern[str], at: int, expected: str) -> tuple[ScalarNode, int]:
        match = pattern.match(self._text, at)
        if match is None:
            raise DocumentError(
                "this is no line of a Modelfile", location=self._source.location(at), expected=expected
            )
        span = Span(*match.span(1))
        return self._node(match[1].lower(), span, None), match.end()

    def _value(self, at: int, *, typed: bool) -> ScalarNode:
        """The rest of the line without the blanks behind it, or all lines up to the closing quote."""
        quote = '"""' if self._text.startswith('"""', at) else '"' if self._text.startswith('"', at) else ""
        match = (_CLOSING[quote] if quote else _LINE).search(self._text, at + len(quote))
        if match is None:
            raise DocumentError("the quote is not closed", location=self._source.location(at))
        text = self._text[at : match.end()].rstrip()
        width = len(quote)
        content = text[width : len(text) - width]
        fixed = None
        if "\n" in text or "\r" in text or width == 3:
            fixed = "it is a block of several lines"
        elif (found := INTERPOLATION.search(content)) is not None:
            fixed = f"it contains {found.group()}, which another program fills in"
        span = Span(at, at + len(text))
        return self._node(self._typed(content, span) if typed else content, span, fixed)

    def _typed(self, content: str, span: Span) -> Value:
        """A parameter's value as what it looks like: Ollama has a type for each."""
        text = content.strip()
        if _INTEGER.fullmatch(text):
            number = int(text)
            if abs(number) > LARGEST_INTEGER:
                place = self._source.location(span)
                raise DocumentError("an integer beyond 10**30 is not a quantity", location=place)
            return number
        if len(text) < 400 and _FLOAT.fullmatch(text):
            return float(text)
        return _WORDS.get(text, content)

    def _node(self, value: Value, span: Span, fixed: str | None) -> ScalarNode:
        text = self._text[span.start : span.end]
        return ScalarNode(value=value, text=text, span=span, language=Language.MODELFILE, fixed=fixed)
