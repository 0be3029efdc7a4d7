"""Byte-exact edits: a new value over an old one, a new key beside its sibling."""

from __future__ import annotations

import re
from collections.abc import Iterable

from memplan.documents.notation import Content, spell, spell_key
from memplan.documents.placement import behind, line_end, line_start, refused
from memplan.documents.source import BOM, Source
from memplan.documents.statements import insert_statement, takes_statements
from memplan.documents.tree import Item, Language, MappingNode, Node, ScalarNode
from memplan.domain.edit import Edit, Span

_EMPTY_BRACES = re.compile(r"\{\s*\}")
_COLONS = {Language.YAML: ": ", Language.JSON: ": ", Language.TOML: " = "}
_LINE_RESTS = {
    Language.YAML: re.compile(r"[ \t]*,(?:[ \t]+#[^\r\n]*)?[ \t]*(?=[\r\n])"),
    Language.JSON: re.compile(r"[ \t]*,[ \t]*(?:(?://|#)[^\r\n]*)?(?=[\r\n])"),
    Language.TOML: re.compile(r"[ \t]*,[ \t]*(?:#[^\r\n]*)?(?=[\r\n])"),
}
"""What may stand behind a value and its comma when a new key begins a line of its own below."""

_CLOSED = ("'", '"', "{", "[")
_TAB_BELOW = re.compile(r"[ \t]*[\r\n]\s*?\t")
_INDENTATION = re.compile(r"[ \t]*")
_BLOCK_PREFIX = re.compile(r" *(?:- +)*")


def replace(source: Source, node: ScalarNode, value: Content) -> Edit:
    """A new value in place of a scalar, in its notation. A value that is there already keeps its text.

    Raises:
        EditRefusedError: the value is fixed, or its language cannot spell the new one.
    """
    if node.fixed is not None:
        raise refused(source, node.span, f"{_shown(node)} cannot be rewritten, because {node.fixed}")
    if _same(node.value, value):
        text = node.text
    else:
        try:
            text = spell(value, node.language, node)
        except ValueError as error:
            raise refused(source, node.span, f"{_shown(node)} cannot be rewritten: {error}") from None
    if node.language is Language.YAML and not _fits(source.text, node, text):
        raise refused(source, node.span, f"{_shown(node)} cannot be rewritten: what follows belongs to it")
    space = " " if node.span.start == node.span.end and text else ""
    return Edit(
        path=source.path,
        span=node.span,
        replacement=space + text,
        line=source.line(node.span),
        before=node.text,
        after=text,
    )


def insert(source: Source, mapping: MappingNode, key: str, value: Content, after: str | None = None) -> Edit:
    """A new key behind its sibling ``after``, or behind the last one where that is None or absent.

    In block YAML and in JSON with a line per key the new key gets a line of its own, indented and
    ended like its sibling's; in TOML, Python and Modelfiles it always does, and a mapping becomes a table
    or lines of parameters.

    Raises:
        EditRefusedError: the mapping is fixed, has the key already, or is written in a way that
            leaves no safe place.
    """
    own = [item for item in mapping.items if not item.merged]
    if mapping.fixed is not None:
        raise refused(source, mapping.span, f"{key} cannot be inserted here, because {mapping.fixed}")
    if any(item.key.value == key for item in own):
        raise refused(source, mapping.span, f"{key} is written here already")
    try:
        if takes_statements(mapping):
            return insert_statement(source, mapping, key, value, after)
        written = spell(value, mapping.language)
        name = spell_key(key, mapping.language, own[-1].key if own else None)
    except ValueError as error:
        raise refused(source, mapping.span, f"{key} cannot be inserted: {error}") from None
    if not own:
        return _fill(source, mapping, f"{name}{_COLONS[mapping.language]}{written}", written)
    place = next((number for number, item in enumerate(own) if item.key.value == after), len(own) - 1)
    if mapping.flow:
        return _insert_inline(source, mapping, own, place, name, written)
    return _insert_line(source, own[place], f"{name}: {written}", written)


def apply(source: Source, edits: Iterable[Edit]) -> str:
    """The text after all edits.

    Insertions at one place keep their order, but what belongs to the innermost mapping goes first: a
    line behind both ends the mapping.

    Raises:
        ValueError: two edits overlap, one lies outside the text, or one is for another file.
    """
    pieces = []
    at = 0
    for edit in sorted(edits, key=_order):
        if edit.path != source.path:
            raise ValueError(f"an edit of {edit.path} does not belong to {source.path}")
        if edit.span.start < at:
            raise ValueError(f"two edits of {source.path} overlap in line {edit.line}")
        if edit.span.end > len(source.text):
            raise ValueError(f"an edit of {source.path} lies behind its end")
        pieces += [source.text[at : edit.span.start], edit.replacement]
        at = edit.span.end
    return "".join(pieces) + source.text[at:]


def _order(edit: Edit) -> tuple[Span, int, int]:
    """The place; there, a value before keys behind it, then new lines, deeper ones first, tables last."""
    line = edit.replacement.strip("\r\n")
    if edit.span.start < edit.span.end or line == edit.replacement:
        return edit.span, int(line.lstrip().startswith(",")), 0
    return edit.span, 3 if line.startswith("[") else 2, len(line.lstrip()) - len(line)


def _fits(text: str, node: ScalarNode, new: str) -> bool:
    """Whether what follows a value still reads the same behind its new text.

    Plain text takes in the white space behind it, tabs and all, which are an error behind a quote or a
    bracket; and a ``#`` right behind a quote is no comment behind plain text.
    """
    end = node.span.end
    if node.text[:1] in ("'", '"') and new[:1] not in ("'", '"'):
        return text[end : end + 1] != "#"
    return new[:1] not in _CLOSED or _TAB_BELOW.match(text, end) is None


def _same(old: object, new: object) -> bool:
    return isinstance(old, bool) is isinstance(new, bool) and old == new


def _shown(node: ScalarNode) -> str:
    first = node.text.split("\n", 1)[0].strip()
    return "the empty value" if not first else first if len(first) <= 40 else first[:37] + "..."


def _fill(source: Source, mapping: MappingNode, pair: str, after: str) -> Edit:
    """The first key of ``{}``: the braces are replaced too, so that a second such edit is an overlap."""
    if not _EMPTY_BRACES.fullmatch(source.text, mapping.span.start, mapping.span.end):
        raise refused(source, mapping.span, "no key can be inserted into a mapping without keys of its own")
    return Edit(
        path=source.path,
        span=mapping.span,
        replacement="{" + pair + "}",
        line=source.line(mapping.span),
        before="",
        after=after,
    )


def _insert_inline(
    source: Source, mapping: MappingNode, own: list[Item], place: int, name: str, written: str
) -> Edit:
    text = source.text
    sibling = own[place]
    if text[mapping.span.start : mapping.span.start + 1] != "{":
        raise refused(source, mapping.span, "no key can be inserted into a pair without braces")
    between = text[sibling.key.span.end : sibling.value.span.start]
    usual = _COLONS[mapping.language]
    kept = mapping.language is not Language.YAML and re.fullmatch(r":[ \t]*|[ \t]*=[ \t]*", between)
    pair = f"{name}{between if kept and written else usual}{written}"
    indentation = _own_line(text, sibling)
    at = sibling.value.span.end
    if indentation is None:
        replacement = f", {pair}"
    elif (rest := _LINE_RESTS[mapping.language].match(text, at)) is not None:
        at = rest.end()
        replacement = f"{line_end(text, at)}{indentation}{pair},"
    elif place + 1 < len(own) and _own_line(text, own[place + 1]) is not None:
        at = own[place + 1].key.span.start
        replacement = f"{pair},{line_end(text, at)}{_own_line(text, own[place + 1])}"
    else:
        replacement = f",{line_end(text, at)}{indentation}{pair}"
    if sibling.value.span.start == at and text[at - 1] == ":":
        replacement = " " + replacement  # a comma right behind the colon would be read as text
    line = source.line(at) + (
        indentation is not None and at != own[min(place + 1, len(own) - 1)].key.span.start
    )
    return Edit(
        path=source.path, span=Span(at, at), replacement=replacement, line=line, before="", after=written
    )


def _own_line(text: str, item: Item) -> str | None:
    """The indentation of a key that begins its line, else None."""
    start = line_start(text, item.key.span.start)
    prefix = text[start : item.key.span.start]
    return prefix if start > 0 and _INDENTATION.fullmatch(prefix) else None


def _last_text(node: Node) -> str:
    """The scalar that stands last in a value; nothing for what ends with a bracket."""
    while not isinstance(node, ScalarNode) and not node.flow and node.items:
        item = node.items[-1]
        node = item.value if isinstance(item, Item) else item
    return node.text if isinstance(node, ScalarNode) else ""


def _insert_line(source: Source, sibling: Item, pair: str, after: str) -> Edit:
    text = source.text
    start = line_start(text, sibling.key.span.start)
    prefix = text[start : sibling.key.span.start].removeprefix(BOM)
    if not _BLOCK_PREFIX.fullmatch(prefix) or not text[sibling.key.span.end :].lstrip(" \t").startswith(":"):
        raise refused(source, sibling.key.span, "no key can be inserted behind this one")
    indentation = " " * len(prefix)
    at = behind(text, sibling.value.span.end)
    ended = at > 0 and text[at - 1] in "\r\n"
    if not ended and _last_text(sibling.value)[:1] in ("|", ">"):
        raise refused(
            source, sibling.key.span, "no key can be inserted behind a block without a final newline"
        )
    if after[:1] in _CLOSED and _TAB_BELOW.match(text, max(0, at - 1)):
        raise refused(source, sibling.key.span, "no key can be inserted before a line of tabs")
    newline = line_end(text, at)
    replacement = f"{indentation}{pair}{newline}" if ended else f"{newline}{indentation}{pair}"
    line = source.line(at) + (not ended)
    return Edit(
        path=source.path, span=Span(at, at), replacement=replacement, line=line, before="", after=after
    )
