"""The record of measured runs on this machine: where it lies, and what it says.

It is a YAML sequence, one entry a run, that ``memplan smoke`` appends to and people may read, comment and
prune. Nothing else of memplan is kept between commands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, Node, ScalarNode, SequenceNode, plain
from memplan.domain.bytes import Bytes
from memplan.domain.edit import Span
from memplan.domain.errors import FieldError

VARIABLE = "MEMPLAN_CALIBRATION"
SCHEMA = "memplan.run/1"
CPU = "cpu"

WORDS = ("torch", "transformers", "attention", "workload", "sha256")
LATER_WORDS = ("build", "python")
"""What entries of earlier releases do not say: the release of torch with its local part, and Python's."""

FIGURES = ("allocated", "reserved", "process", "context", "resident", "overhead")
"""Bytes of a run; null is what a device has not got, or nobody told."""

LATER_FIGURES = ("overhead",)
"""What entries of earlier releases leave out."""

NONE = "none"
"""The word for a library that was not loaded, or a kind of attention that there was not."""

_KEYS = ("schema", "date", "device", "driver", *WORDS, "predicted", "measured")
_HINT = f"repair or remove the entry, or name another file in {VARIABLE}"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One measured run. ``device`` is ``cpu`` or the GPU's name; of a CPU there is no ``driver``.

    ``words`` are the values of ``WORDS``, and of ``LATER_WORDS`` where they are there; ``predicted`` and
    ``measured`` hold the bytes of ``FIGURES``.
    """

    date: str
    device: str
    driver: str | None
    words: Mapping[str, str]
    predicted: Mapping[str, Bytes | None]
    measured: Mapping[str, Bytes | None]


def usual_path(environment: Mapping[str, str] = os.environ) -> Path | None:
    """A user's record: ``MEMPLAN_CALIBRATION``, else a file of its data folder.

    That is ``XDG_DATA_HOME`` if it is an absolute path, else ``~/.local/share``. None if the variable is set
    and empty, or there is no home.
    """
    if (named := environment.get(VARIABLE)) is not None:
        return Path(named) if named else None
    data = Path(environment.get("XDG_DATA_HOME", ""))
    try:
        folder = data if data.is_absolute() else Path.home() / ".local" / "share"
    except RuntimeError:
        return None
    return folder / "memplan" / "calibration.yaml"


def entries(path: Path) -> tuple[Entry, ...]:
    """Every run of a record, in order; none where there is no file, or none can be seen.

    Raises:
        FileAccessError: the file is not readable text.
        DocumentError: it is not YAML.
        FieldError: it is not a record of runs; the place is named.
    """
    return parsed(Source.open(path)) if os.path.exists(path) else ()


def parsed(source: Source) -> tuple[Entry, ...]:
    """The runs of a record's text; see ``entries``."""
    from memplan.documents import yaml

    found = yaml.parse(source)
    if isinstance(found, ScalarNode) and found.value is None:
        return ()
    if not isinstance(found, SequenceNode):
        raise _refused(source, found, "this is no record of measured runs", f"entries of {SCHEMA}")
    return tuple(_entry(source, node) for node in found.items)


def _entry(source: Source, node: Node) -> Entry:
    if not isinstance(node, MappingNode) or (named := node.get("schema")) is None:
        raise _refused(source, node, "this is no measured run", f"an entry of {SCHEMA}")
    if plain(named) != SCHEMA:
        raise _refused(source, named, "this is no measured run", SCHEMA)
    _keys(source, node, _KEYS, LATER_WORDS)
    device, driver = _word(source, node, "device"), node.get("driver")
    date = _word(source, node, "date")
    if not _DAY.fullmatch(date):
        raise _refused(source, _there(node, "date"), "date is no day", "such as 2026-11-22")
    return Entry(
        date=date,
        device=device,
        driver=None if driver is None or plain(driver) is None else _word(source, node, "driver"),
        words={
            name: _word(source, node, name)
            for name in (*WORDS, *LATER_WORDS)
            if name in WORDS or node.get(name) is not None
        },
        predicted=_figures(source, node, "predicted"),
        measured=_figures(source, node, "measured"),
    )


def _keys(source: Source, node: MappingNode, wanted: tuple[str, ...], later: tuple[str, ...]) -> None:
    """Refuse what is repeated, unknown or missing; what came ``later`` may be."""
    known = tuple(dict.fromkeys((*wanted, *later)))
    for key in node.duplicates:
        raise _refused(source, key, f"{key.text} is written twice", "every key once")
    for item in node.items:
        if item.key.value not in known:
            raise _refused(source, item.key, f"unknown key {item.key.text}", ", ".join(known))
    for name in wanted:
        if node.get(name) is None and name not in later:
            raise _refused(source, node, f"{name} is missing", ", ".join(wanted))


def _word(source: Source, node: MappingNode, name: str) -> str:
    found = _there(node, name)
    value = plain(found)
    if not isinstance(value, str) or not value:
        raise _refused(source, found, f"{name} is no text", "text in quotes")
    return value


def _figures(source: Source, node: MappingNode, name: str) -> dict[str, Bytes | None]:
    found = _there(node, name)
    if not isinstance(found, MappingNode):
        raise _refused(source, found, f"{name} holds no figures", ", ".join(FIGURES))
    _keys(source, found, FIGURES, LATER_FIGURES)
    return {key: None if (there := found.get(key)) is None else _bytes(source, there, key) for key in FIGURES}


def _bytes(source: Source, node: Node, name: str) -> Bytes | None:
    value = plain(node)
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise _refused(source, node, f"{name} is no amount", "whole bytes, or null")
    return Bytes(value)


def _there(node: MappingNode, name: str) -> Any:
    """The value of a key that was looked for before."""
    return node.get(name)


def _refused(source: Source, node: Node, message: str, expected: str) -> FieldError:
    span = node.span
    first = source.text[span.start : span.end].partition("\n")[0]
    place = source.location(Span(start=span.start, end=span.start + len(first)))
    return FieldError(message, location=place, expected=expected, hint=_HINT)
