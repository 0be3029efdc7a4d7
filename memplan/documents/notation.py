"""How a value is spelled: a new value in the notation of the one that stood there.

Numbers keep their exponent, their separators and their suffix, truth values their words, texts their
quotes. What is written reads back as the value that was asked for, whichever reader of YAML a framework
uses: ``1e-5`` would be text to PyYAML, so it is written ``1.0e-5`` unless ``2e-5`` was a number before.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from keyword import iskeyword

from memplan.documents.tree import Language, ScalarNode, Value

Content = Value | Sequence["Content"] | Mapping[str, "Content"]
"""What can be written: a scalar, or a small list or mapping on one line."""

_TRUTH = {"true": "false", "yes": "no", "on": "off"}
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+-]*(?: [A-Za-z0-9_./@+-]+)*")
_NOT_PLAIN = frozenset(("true", "false", "yes", "no", "on", "off", "null", "y", "n"))
_ONE_LINE = "[\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*"
_NEEDS_ESCAPE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_EXPONENT = re.compile(r"([eE])([-+]?)([0-9]+)[fFlL]?$")
_INTEGER_SUFFIX = re.compile(r"(?<![A-Za-z_])(?:0[xX][0-9a-fA-F']+|[0-9][0-9']*)([uUlLzZ]*)$")
_FLOAT_SUFFIX = re.compile(r"[0-9.]([fFlL])$")
_NUMBER_AS_TEXT = re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+")
"""``2e-5`` is text to PyYAML but meant as a number, so its notation is kept."""

_LONGEST_FIXED = 17
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_COLLECTIONS = (Language.YAML, Language.JSON, Language.TOML)


def spell(value: Content, language: Language, like: ScalarNode | None = None) -> str:
    """The text of a value on one line, in the notation of ``like`` where it has the same kind.

    Raises:
        ValueError: the language has no such value.
    """
    if isinstance(value, bool):
        return _truth(value, language, like)
    if value is None:
        return _nothing(language, like)
    if isinstance(value, int | float):
        return _number(value, language, like)
    if isinstance(value, str):
        return _text(value, language, like)
    if language not in _COLLECTIONS:
        raise ValueError(f"memplan writes no collections into {language.value}")
    if isinstance(value, Mapping):
        colon = " = " if language is Language.TOML else ": "
        parts = (
            f"{spell_key(str(key), language)}{colon}{spell(item, language)}" for key, item in value.items()
        )
        return "{" + ", ".join(parts) + "}"
    return "[" + ", ".join(spell(item, language) for item in value) + "]"


def spell_key(key: str, language: Language, like: ScalarNode | None = None) -> str:
    """The text of a key, in the notation of the key ``like``.

    Raises:
        ValueError: the language has no such key.
    """
    if language is Language.TOML and _BARE_KEY.fullmatch(key):
        return key
    if language in (Language.PYTHON, Language.MODELFILE):
        if _NAME.fullmatch(key) is None or (language is Language.PYTHON and iskeyword(key)):
            raise ValueError(f"{key!r} is no name in {language.value}")
        return key
    return spell(key, language, like)


def _truth(value: bool, language: Language, like: ScalarNode | None) -> str:
    if language is Language.PYTHON:
        return str(value)
    word = "true"
    if language is Language.YAML and like is not None and isinstance(like.value, bool):
        old = like.text
        word = next((yes for yes, no in _TRUTH.items() if old.lower() in (yes, no)), "true")
        word = word if value else _TRUTH[word]
        return word.upper() if old.isupper() else word.title() if old.istitle() else word
    return word if value else _TRUTH[word]


def _nothing(language: Language, like: ScalarNode | None) -> str:
    if language in (Language.CPP, Language.TOML, Language.MODELFILE):
        raise ValueError(f"{language.value} has no empty value for a setting")
    if language is Language.PYTHON:
        return "None"
    if language is Language.YAML and like is not None and like.value is None and like.text:
        return like.text
    return "null"


def _number(value: int | float, language: Language, like: ScalarNode | None) -> str:
    old = like.text if like is not None and _is_number(like.value) else ""
    was_float = like is not None and isinstance(like.value, float)
    if like is not None and _NUMBER_AS_TEXT.fullmatch(like.text):
        old, was_float = like.text, True
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    if isinstance(value, float) or (was_float and int(float(value)) == value):
        bare = like is not None and isinstance(like.value, float)
        text = _float(float(value), old if was_float else "", bare=bare)
        suffix = _FLOAT_SUFFIX.search(old) if was_float and language is Language.CPP else None
        return text + (suffix.group(1) if suffix else "")
    return _integer(int(value), language, "" if was_float else old)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _integer(value: int, language: Language, old: str) -> str:
    if language is Language.CPP:
        suffix = match.group(1) if (match := _INTEGER_SUFFIX.search(old)) else ""
        if value < 0 and "u" in suffix.lower():
            raise ValueError(f"{old} is unsigned and cannot become {value}")
        return (f"{value:,}".replace(",", "'") if "'" in old else f"{value}") + suffix
    if "_" in old and language in (Language.YAML, Language.PYTHON, Language.TOML):
        return f"{value:_}"
    return f"{value}"


def _float(value: float, old: str, *, bare: bool) -> str:
    """Shortest digits that read back as the same float.

    They have a point and their exponent a sign, as PyYAML needs them, unless ``bare``: then the old text
    was a number without, and the new one may be.
    """
    exact = Decimal(repr(value))
    power = exact.adjusted() if value else 0
    style = _EXPONENT.search(old)
    fixed = f"{exact:f}"
    fixed = fixed if "." in fixed else fixed + ".0"
    if len(fixed) <= _LONGEST_FIXED and (style is None or power == 0):
        return fixed
    sign, digits, _ = exact.as_tuple()
    letter, plus, width = style.groups() if style else ("e", "+", "0")
    padding = len(width) if width.startswith("0") else 1
    mantissa = "".join(map(str, digits)).rstrip("0") or "0"
    rest = mantissa[1:] or ("" if bare and style and "." not in old else "0")
    mantissa = f"{'-' if sign else ''}{mantissa[0]}{'.' if rest else ''}{rest}"
    plus = "" if bare and style and not plus else "+"
    return f"{mantissa}{letter}{'-' if power < 0 else plus}{abs(power):0{padding}d}"


def _text(value: str, language: Language, like: ScalarNode | None) -> str:
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("half of a surrogate pair cannot be written")
    quote = like.text[:1] if like is not None and like.text[:1] in ("'", '"') else ""
    if language is Language.JSON:
        return json.dumps(value, ensure_ascii=like is not None and "\\u" in like.text)
    if language is Language.YAML:
        return _yaml_text(str(value), quote)
    if language is Language.TOML:
        return _toml_text(value, quote)
    if language is Language.MODELFILE:
        return _modelfile_text(value, quote)
    return _program_text(value, language, quote or '"')


def _yaml_text(value: str, quote: str) -> str:
    if not quote and _PLAIN.fullmatch(value) and value.lower() not in _NOT_PLAIN:
        return value
    if quote == "'" and re.fullmatch(_ONE_LINE, value):
        return "'" + value.replace("'", "''") + "'"
    quoted = json.dumps(value, ensure_ascii=False)
    return _NEEDS_ESCAPE.sub(lambda match: f"\\u{ord(match.group()):04x}", quoted)


def _toml_text(value: str, quote: str) -> str:
    """A basic string; a literal one where that stood before and the text needs no escape."""
    if quote == "'" and "'" not in value and re.fullmatch(_ONE_LINE, value):
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _modelfile_text(value: str, quote: str) -> str:
    """A value up to the end of its line; a Modelfile knows quotes but no escapes."""
    if "\n" in value or "\r" in value or '"' in value:
        raise ValueError("a Modelfile holds no quotes and line ends within one line")
    plain = value == value.strip() and value != "" and not quote
    return value if plain else f'"{value}"'


def _program_text(value: str, language: Language, quote: str) -> str:
    """A string literal with only the escapes that Python and C++ share and memplan reads back."""
    if any((char < " " and char not in "\n\t\r") or char == "\x7f" for char in value):
        raise ValueError(f"a control character is not written into {language.value}")
    escaped = value.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return quote + escaped.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + quote
