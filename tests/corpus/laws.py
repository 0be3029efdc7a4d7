"""What holds of every rewrite of a real config."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from memplan.dialects import edits
from memplan.dialects.reading import FieldChange, Reading
from memplan.documents import edits as documents
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, Node, ScalarNode
from memplan.domain.edit import Edit
from memplan.read import _parser, reread
from tests.corpus.changes import Changes

Place = tuple[object, ...]

OMEGACONF = ("torchtune", "llamafactory", "oumi", "hydra")
"""Dialects whose frameworks read their files with OmegaConf."""


def asked(reading: Reading, wanted: Changes) -> list[FieldChange]:
    """Changes as a plan gives them."""
    return [(name, reading.workload.at(name), after) for name, after in wanted.items()]


def rewritten(reading: Reading, changes: list[FieldChange]) -> tuple[dict[str, str], tuple[Edit, ...]]:
    """The texts of the files that changes touch and the edits; no edits where the dialect gives advice."""
    written, advice = edits(reading, changes)
    if advice:
        return {}, ()
    return _applied(reading, written), written


def check(reading: Reading, wanted: Changes) -> bool:
    """Whether changes can be written: then they read back, leave the rest alone, and can be taken back."""
    changes = asked(reading, wanted)
    texts, written = rewritten(reading, changes)
    if not written:
        return False
    planned = reading.workload
    for name, after in wanted.items():
        planned = planned.changed(name, after)
    again = reread(reading, texts)
    assert again.workload == planned, _difference(again, planned)
    assert edits(again, asked(again, wanted))[0] == (), "a second rewrite changes something"
    for path, text in texts.items():
        own = tuple(edit for edit in written if edit.path == path)
        _check_rest(reading.sources[path], text, own)
        if reading.dialect in OMEGACONF and path == reading.document.source.path:
            _check_omegaconf(reading.document.source, text, own)
    _check_back(reading, again, changes, written)
    return True


def _applied(reading: Reading, written: Iterable[Edit]) -> dict[str, str]:
    by_path: dict[str, list[Edit]] = {}
    for edit in written:
        by_path.setdefault(edit.path, []).append(edit)
    return {path: documents.apply(reading.sources[path], own) for path, own in by_path.items()}


def _check_back(
    reading: Reading, again: Reading, changes: list[FieldChange], written: tuple[Edit, ...]
) -> None:
    """Taken back, the workload is the old one, and so is every byte.

    Except where a key had to be inserted, where the file had another word for the same (``null``, ``0``:
    then the parser finds another value), and for quotes that the other value needed.
    """
    back, advice = edits(again, [(name, after, before) for name, before, after in changes])
    if advice:
        return  # a framework may read what it has no other word for today, such as a retired flag
    texts = _applied(again, back)
    assert reread(reading, texts).workload == reading.workload
    inserted = {edit.path for edit in written if edit.span.start == edit.span.end}
    for path, text in texts.items():
        original = reading.sources[path].text
        strict = not path.endswith(".json") or _plain_json(original)
        if path not in inserted and strict and repr(_parsed(path, text)) == repr(_parsed(path, original)):
            assert _unquoted(text) == _unquoted(original)


def _unquoted(text: str) -> str:
    return text.replace('"', "").replace("'", "")


def _check_omegaconf(source: Source, text: str, written: tuple[Edit, ...]) -> None:
    """The same by the loader of the framework itself, where it is installed."""
    if find_spec("omegaconf") is None:
        return
    library = import_module("omegaconf").OmegaConf
    before, after = (library.to_container(library.create(each)) for each in (source.text, text))
    _check_untouched(source, dict(_leaves(before)), dict(_leaves(after)), written)


def _check_rest(source: Source, text: str, written: tuple[Edit, ...]) -> None:
    """The format's own parser finds every other value where it was, and as it was."""
    path = source.path
    if path.endswith(".json") and not _plain_json(source.text):
        return  # with comments, which only its framework's parser reads
    before, after = dict(_leaves(_parsed(path, source.text))), dict(_leaves(_parsed(path, text)))
    _check_untouched(source, before, after, written)


def _check_untouched(
    source: Source, before: dict[Place, Any], after: dict[Place, Any], written: tuple[Edit, ...]
) -> None:
    touched = {
        place
        for place, node in _spans(_parser(Path(source.path))(source))
        if any(edit.span.start <= node.span.end and node.span.start <= edit.span.end for edit in written)
    }
    for place, value in before.items():
        if place not in touched:
            assert place in after, place
            assert after[place] == value or value != value, place


def _plain_json(text: str) -> bool:
    try:
        json.loads(text.removeprefix("\ufeff"))
    except ValueError:
        return False
    return True


def _parsed(path: str, text: str) -> Any:
    suffix = Path(path).suffix
    if suffix == ".toml":
        return tomllib.loads(text)
    if suffix == ".json":
        return json.loads(text.removeprefix("\ufeff"))
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, loader)


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*place, number))
    else:
        yield place, value


def _spans(node: Node, place: Place = ()) -> Iterator[tuple[Place, ScalarNode]]:
    if isinstance(node, ScalarNode):
        yield place, node
    elif isinstance(node, MappingNode):
        for item in node.items:
            yield from _spans(item.value, (*place, item.key.value))
    else:
        for number, inner in enumerate(node.items):
            yield from _spans(inner, (*place, number))


def _difference(again: Reading, planned: Any) -> str:
    return "; ".join(
        f"{item.name}: {getattr(again.workload, item.name)} is not {getattr(planned, item.name)}"
        for item in fields(planned)
        if getattr(again.workload, item.name) != getattr(planned, item.name)
    )
