"""What holds of every rewrite of a real config."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import PurePath
from typing import Any

from memplan.dialects import edits
from memplan.dialects.reading import FieldChange, Reading
from memplan.documents import edits as documents
from memplan.documents.tree import MappingNode, Node, ScalarNode
from memplan.domain.edit import Edit
from memplan.read import reread
from tests.corpus.changes import Changes

Path = tuple[object, ...]


def asked(reading: Reading, wanted: Changes) -> list[FieldChange]:
    """Changes as a plan gives them."""
    return [(name, reading.workload.at(name), after) for name, after in wanted.items()]


def rewritten(reading: Reading, changes: list[FieldChange]) -> tuple[str, tuple[Edit, ...]] | None:
    """The text after changes and its edits; ``None`` where the dialect gives advice instead."""
    written, advice = edits(reading, changes)
    if advice or not written:
        return None
    return documents.apply(reading.document.source, written), written


def check(reading: Reading, wanted: Changes) -> bool:
    """Whether changes can be written: then they read back, leave the rest alone, and can be taken back."""
    changes = asked(reading, wanted)
    found = rewritten(reading, changes)
    if found is None:
        return False
    text, written = found
    planned = reading.workload
    for name, after in wanted.items():
        planned = planned.changed(name, after)
    again = reread(reading, {str(reading.path): text})
    assert again.workload == planned, _difference(again, planned)
    assert edits(again, asked(again, wanted))[0] == (), "a second rewrite changes something"
    _check_rest(reading, text, written)
    _check_back(reading, again, changes, written)
    return True


def _check_back(
    reading: Reading, again: Reading, changes: list[FieldChange], written: tuple[Edit, ...]
) -> None:
    """Taken back, the workload is the old one, and so is every byte.

    Except where a key had to be inserted, and where the file had another word for the same (``null``,
    ``auto``): then the parser finds another value.
    """
    back, advice = edits(again, [(name, after, before) for name, before, after in changes])
    assert advice == (), advice
    text = documents.apply(again.document.source, back)
    assert reread(reading, {str(reading.path): text}).workload == reading.workload
    original, path = reading.document.source.text, reading.document.source.path
    inserted = any(edit.span.start == edit.span.end for edit in written)
    if not inserted and _parsed(path, text) == _parsed(path, original):
        assert text == original


def _check_rest(reading: Reading, text: str, written: tuple[Edit, ...]) -> None:
    """The format's own parser finds every other value where it was, and as it was."""
    path = reading.document.source.path
    before, after = (
        dict(_leaves(_parsed(path, reading.document.source.text))),
        dict(_leaves(_parsed(path, text))),
    )
    touched = {
        place
        for place, node in _spans(reading.document.root)
        if any(edit.span.start <= node.span.end and node.span.start <= edit.span.end for edit in written)
    }
    for place, value in before.items():
        if place not in touched:
            assert place in after, place
            assert after[place] == value or value != value, place


def _parsed(path: str, text: str) -> Any:
    suffix = PurePath(path).suffix
    if suffix == ".toml":
        return tomllib.loads(text)
    if suffix == ".json":
        return json.loads(text.removeprefix("\ufeff"))
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, loader)


def _leaves(value: Any, place: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*place, number))
    else:
        yield place, value


def _spans(node: Node, place: Path = ()) -> Iterator[tuple[Path, ScalarNode]]:
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
