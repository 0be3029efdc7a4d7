"""Scalars of YAML: the value of a text, as the framework's own reader has it.

To PyYAML ``2e-5`` is text, ``on`` a truth value, ``010`` eight and ``12:30`` 750: a reader that guesses
otherwise plans for another run than the one that starts.
"""

from __future__ import annotations

import math
import re
from typing import Any

from memplan.documents.source import Source
from memplan.documents.tree import LARGEST_INTEGER, Language, ScalarNode, Value
from memplan.documents.yaml_resolvers import Resolver
from memplan.domain.edit import Span
from memplan.domain.errors import DocumentError

_STANDARD = "tag:yaml.org,2002:"
_TEXT = frozenset(_STANDARD + name for name in ("str", "timestamp", "value", "merge"))
_TRUE = frozenset(("yes", "true", "on"))
_FALSE = frozenset(("no", "false", "off"))
_LONGEST_NUMBER = 400
INTERPOLATION = re.compile(r"\$\{|\{\{|\$\(|\{%")
"""What marks a text as something another program fills in."""


def read_scalar(source: Source, loader: Any, event: Any, span: Span, resolver: Resolver) -> ScalarNode:
    """The node of a scalar event.

    Raises:
        DocumentError: an unknown tag, or a number that is malformed or too large.
    """
    tag = _tag(source, loader, event, span, resolver)
    text = source.text[span.start : span.end]
    value = _value(source, tag, event.value, span, resolver)
    return ScalarNode(
        value=value,
        text=text,
        span=span,
        language=Language.YAML,
        fixed=_fixed(event, value),
    )


def _resolved(loader: Any, event: Any, resolver: Resolver) -> str:
    """The tag of a scalar event, standard tags in full."""
    import yaml

    if event.tag is not None and event.tag != "!":
        return str(event.tag)
    if event.tag is None and not event.style and event.implicit[0]:
        tag = str(loader.resolve(yaml.ScalarNode, event.value, (True, False)))
        return _STANDARD + resolver.kind(event.value, tag.removeprefix(_STANDARD))
    return _STANDARD + "str"


def _tag(source: Source, loader: Any, event: Any, span: Span, resolver: Resolver) -> str:
    tag = _resolved(loader, event, resolver)
    known = _TEXT | {_STANDARD + name for name in ("int", "float", "bool", "null")}
    if tag not in known:
        raise unknown_tag(source, tag, span)
    return tag


def unknown_tag(source: Source, tag: str, span: Span) -> DocumentError:
    """A tag asks for something other than plain values."""
    return DocumentError(
        f"the tag {tag} is not plain YAML",
        location=source.location(span),
        expected="values without tags",
    )


def _fixed(event: Any, value: Value) -> str | None:
    if event.style in ("|", ">"):
        return "it is a block of several lines"
    if event.tag is not None:
        return f"it carries the tag {event.tag.replace(_STANDARD, '!!')}"
    if isinstance(value, str) and (match := INTERPOLATION.search(value)) is not None:
        return f"it contains {match.group()}, which another program fills in"
    return None


def _value(source: Source, tag: str, text: str, span: Span, resolver: Resolver) -> Value:
    if tag in _TEXT:
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise DocumentError("half of a surrogate pair is not a character", location=source.location(span))
        return text
    try:
        return _typed(tag.removeprefix(_STANDARD), text, resolver)
    except ValueError as error:
        raise DocumentError(str(error), location=source.location(span)) from None


def _typed(kind: str, text: str, resolver: Resolver) -> Value:
    if kind == "null":
        return None
    if kind == "bool":
        if text.lower() not in _TRUE | _FALSE:
            raise ValueError(f"{text!r} is not a truth value")
        return text.lower() in _TRUE
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("a number of more than 400 characters is not a quantity")
    return _integer(text, resolver) if kind == "int" else _float(text)


def _integer(text: str, resolver: Resolver) -> int:
    digits = text.replace("_", "")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    try:
        magnitude = _magnitude(digits, resolver)
    except ValueError:
        raise ValueError(f"{text!r} is not an integer") from None
    if magnitude > LARGEST_INTEGER:
        raise ValueError("an integer beyond 10**30 is not a quantity")
    return sign * magnitude


def _magnitude(digits: str, resolver: Resolver) -> int:
    if digits.startswith("0b"):
        return int(digits[2:], 2)
    if digits.startswith("0x"):
        return int(digits[2:], 16)
    if resolver is Resolver.YAML12:
        return int(digits[2:], 8) if digits.startswith("0o") else int(digits)
    if digits.startswith("0") and digits != "0":
        return int(digits, 8)
    total = 0
    for part in digits.split(":"):
        total = total * 60 + int(part)
    return total


def _float(text: str) -> float:
    digits = text.replace("_", "").lower()
    sign = -1.0 if digits.startswith("-") else 1.0
    digits = digits.lstrip("+-")
    if digits in (".inf", ".nan"):
        return sign * float(digits[1:])
    try:
        total = 0.0
        for part in digits.split(":"):
            total = total * 60 + float(part)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not math.isfinite(total):
        raise ValueError(f"{text} is larger than floating point can hold")
    return sign * total
