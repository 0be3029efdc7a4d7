"""New keys in languages where every key is a statement: TOML, Python and Modelfiles."""

from __future__ import annotations

import re
from collections.abc import Mapping

from memplan.documents.notation import Content, spell, spell_key
from memplan.documents.placement import behind, line_end, line_start, refused
from memplan.documents.source import BOM, Source
from memplan.documents.tree import Item, Language, MappingNode
from memplan.domain.edit import Edit, Span

_JOINS = {Language.TOML: " = ", Language.PYTHON: " = ", Language.MODELFILE: " "}
_SIMPLE_JOIN = re.compile(r" ?= ?|[ \t]+")
_DOTTED = r"(?:[A-Za-z0-9_-]+[ \t]*\.[ \t]*)*"
_PREFIXES = {
    Language.TOML: re.compile(rf"[ \t]*{_DOTTED}"),
    Language.PYTHON: re.compile(r""),
    Language.MODELFILE: re.compile(r"[ \t]*(?:parameter[ \t]+)?", re.IGNORECASE),
}
_REST = re.compile(r"[ \t]*(?:#[^\r\n]*)?(?=[\r\n]|\Z)")


def takes_statements(mapping: MappingNode) -> bool:
    """Whether a key of this mapping is a line of its own rather than a part of one."""
    return mapping.language in _JOINS and not mapping.flow


def insert_statement(
    source: Source, mapping: MappingNode, key: str, value: Content, after: str | None
) -> Edit:
    """A new statement behind its sibling ``after``, or behind the last one.

    In TOML a mapping becomes a table at the end of the file, in a Modelfile lines of PARAMETER.

    Raises:
        EditRefusedError: no line is safe.
        ValueError: the language cannot spell the key or the value.
    """
    language = mapping.language
    if language is Language.TOML and isinstance(value, Mapping):
        return _table(source, mapping, key, value)
    own = _own(mapping)
    sibling = next((item for item in own if item.key.value == after), own[-1] if own else None)
    if sibling is None:
        at, prefix, join = _after_header(source, mapping), "", _JOINS[language]
    else:
        at, prefix, join = _after_sibling(source, sibling, language)
    if language is Language.MODELFILE and isinstance(value, Mapping):
        lines = [
            f"PARAMETER {spell_key(name, language)} {spell(item, language)}" for name, item in value.items()
        ]
        written = ", ".join(lines)
    else:
        written = spell(value, language)
        name = spell_key(key, language, sibling.key if sibling else None)
        root = language is Language.MODELFILE and not prefix.strip()
        lines = [f"{prefix}{name.upper() if root else name}{join}{written}"]
    return _lines(source, at, lines, written)


def _own(mapping: MappingNode) -> list[Item]:
    """The keys of the mapping's own body: a TOML table's subtables stand elsewhere."""
    if mapping.language is not Language.TOML:
        return list(mapping.items)
    span = mapping.span
    return [item for item in mapping.items if span.start <= item.key.span.start < span.end]


def _after_header(source: Source, mapping: MappingNode) -> int:
    if source.text[mapping.span.start : mapping.span.start + 1] != "[" or not mapping.span.end:
        raise refused(source, mapping.span, "no key can be inserted where none is written")
    return behind(source.text, mapping.span.end)


def _after_sibling(source: Source, sibling: Item, language: Language) -> tuple[int, str, str]:
    """Where the next line starts, what stands before the sibling's key, and what behind it."""
    text, key = source.text, sibling.key.span
    prefix = _prefix(text, sibling)
    end = sibling.value.span.end
    if not _PREFIXES[language].fullmatch(prefix) or not (
        language is Language.MODELFILE or _REST.match(text, end)
    ):
        raise refused(source, key, "no key can be inserted behind this one")
    between = text[key.end : sibling.value.span.start]
    return behind(text, end), prefix, between if _SIMPLE_JOIN.fullmatch(between) else _JOINS[language]


def _prefix(text: str, item: Item) -> str:
    """What stands before a key in its line."""
    start = item.key.span.start
    return text[line_start(text, start) : start].removeprefix(BOM)


def _table(source: Source, mapping: MappingNode, key: str, value: Mapping[str, Content]) -> Edit:
    """A table with its header, behind everything else, and behind an empty line."""
    text = source.text
    header = _path(source, mapping)
    name = spell_key(key, Language.TOML)
    pairs = [
        f"{spell_key(str(part), Language.TOML)} = {spell(item, Language.TOML)}"
        for part, item in value.items()
    ]
    blank = not text.strip() or text.endswith(("\n\n", "\r\n\r\n"))
    written = ", ".join(pairs)
    return _lines(source, len(text), ([] if blank else [""]) + [f"[{header}{name}]", *pairs], written)


def _path(source: Source, mapping: MappingNode) -> str:
    """What stands before a new table's name in its header: the name of the table it belongs to."""
    start = mapping.span.start
    dotted = any(_prefix(source.text, item).strip() for item in _own(mapping))
    if dotted:
        raise refused(source, mapping.span, "no table can be inserted below a key with dots")
    if mapping.span.end == 0 or source.text[start : start + 1] != "[":
        if start == 0:
            return ""
    elif source.text[start : start + 2] != "[[":
        return source.text[start + 1 : source.text.index("]", start)].strip() + "."
    raise refused(source, mapping.span, "no table can be inserted below this one")


def _lines(source: Source, at: int, lines: list[str], written: str) -> Edit:
    text = source.text
    newline = line_end(text, at)
    ended = at == 0 or text[at - 1] in "\r\n"
    body = newline.join(lines)
    replacement = f"{body}{newline}" if ended else f"{newline}{body}"
    line = source.line(at) + (not ended)
    return Edit(
        path=source.path, span=Span(at, at), replacement=replacement, line=line, before="", after=written
    )
