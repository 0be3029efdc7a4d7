"""Literals of Python and C++: the right-hand sides that can be read and rewritten.

They are matched as text; nothing of a program is ever evaluated.
"""

from __future__ import annotations

import math
import re

from memplan.documents.tree import LARGEST_INTEGER, Language, ScalarNode, Value
from memplan.domain.edit import Span

_LONGEST_NUMBER = 400
_STRING = re.compile(r'"((?:[^"\\\r\n]|\\[^\r\n])*)"')
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\\r\n]|\\[^\r\n])*)'")
_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "r": "\r"}
_PYTHON_INTEGER = re.compile(
    r"0[xX](?P<hex>[0-9a-fA-F_]+)|0[bB](?P<bin>[01_]+)|0[oO](?P<oct>[0-7_]+)|(?P<dec>0+|[1-9][0-9_]*)"
)
_CPP_INTEGER = re.compile(
    r"(?:0[xX](?P<hex>[0-9a-fA-F']+)|0[bB](?P<bin>[01']+)|0(?P<oct>[0-7']+)|(?P<dec>0|[1-9][0-9']*))[uUlLzZ]{0,3}"
)
_BASES = {"hex": 16, "bin": 2, "oct": 8, "dec": 10}
_POINT = (
    r"(?:[0-9][0-9{sep}]*\.[0-9{sep}]*|\.[0-9][0-9{sep}]*)(?:[eE][-+]?[0-9]+)?"
    r"|[0-9][0-9{sep}]*[eE][-+]?[0-9]+"
)
_FLOATS = {
    Language.PYTHON: re.compile(f"({_POINT.format(sep='_')})"),
    Language.CPP: re.compile(f"({_POINT.format(sep=chr(39))})[fFlL]?"),
}
_WORDS: dict[Language, dict[str, Value]] = {
    Language.PYTHON: {"True": True, "False": False, "None": None},
    Language.CPP: {"true": True, "false": False},
}
_LONGEST_LITERAL = 1000


def scalar(text: str, span: Span, language: Language, fixed: str | None) -> ScalarNode:
    """The node of a right-hand side: fixed with its text as value (shortened) when it is no literal."""
    value: Value
    try:
        value = read_literal(text, language)
    except ValueError as error:
        fixed = fixed or str(error)
        value = text = text if len(text) <= _LONGEST_LITERAL else f"{text[:_LONGEST_LITERAL]}..."
    return ScalarNode(value=value, text=text, span=span, language=language, fixed=fixed)


def read_literal(text: str, language: Language) -> Value:
    """The value of a literal; a minus sign may stand before a number.

    Raises:
        ValueError: the text is no literal that memplan rewrites. The message is a clause that says why.
    """
    if len(text) > _LONGEST_LITERAL:
        raise ValueError("it is an expression, which memplan does not evaluate")
    if text in _WORDS[language]:
        return _WORDS[language][text]
    if text[:1] in ("'", '"'):
        return _string(text, language)
    negative = text.startswith("-")
    value = _number(text.removeprefix("-").lstrip(" \t"), language)
    return -value if negative else value


def _number(text: str, language: Language) -> int | float:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("it is no literal")
    if (match := _FLOATS[language].fullmatch(text)) is not None:
        value = float(match.group(1).replace("'", "").replace("_", ""))
        if not math.isfinite(value):
            raise ValueError("it is larger than floating point can hold")
        return value
    pattern = _PYTHON_INTEGER if language is Language.PYTHON else _CPP_INTEGER
    match = pattern.fullmatch(text)
    if match is None or match.lastgroup is None:
        raise ValueError("it is an expression, which memplan does not evaluate")
    digits = match.group(match.lastgroup).replace("_", "").replace("'", "")
    if not digits:
        raise ValueError("it is not a number")
    number = int(digits, _BASES[match.lastgroup])
    if number > LARGEST_INTEGER:
        raise ValueError("it is beyond 10**30")
    return number


def _string(text: str, language: Language) -> str:
    match = _STRING.fullmatch(text)
    if match is None and language is Language.PYTHON:
        match = _SINGLE_QUOTED.fullmatch(text)
    if match is None:
        raise ValueError("it is not a string of one line")
    parts = re.split(r"\\(.)", match.group(1))
    if any(escape not in _ESCAPES for escape in parts[1::2]):
        raise ValueError("it holds an escape that memplan does not rewrite")
    return "".join(_ESCAPES[part] if number % 2 else part for number, part in enumerate(parts))
