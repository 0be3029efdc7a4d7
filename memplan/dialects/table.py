"""Settings that are one key each, as a table: how a framework spells them, and how they are written back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memplan.dialects import writing
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import FieldChange, Reading
from memplan.documents.tree import MappingNode, Node
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Workload


def _itself(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: its native ``field``, its ``keys`` (the usual one first, then older names and aliases).

    ``default`` holds when none of them is written, and ``says`` why. ``spell`` turns a value of the workload
    into what the file has for it, and raises ``EditRefusedError`` where the framework has no word for it.
    """

    field: str
    keys: tuple[str, ...]
    read: Callable[[Keys, Value], Any]
    default: Any
    says: str
    spell: Callable[[Any], Any] = _itself


Writer = Callable[[Reading, Workload], list[Edit]]
"""Edits for everything of a workload under one first name (``batch``) that differs from a reading's."""


def whole(keys: Keys, value: Value) -> int:
    """A positive whole number."""
    found = keys.whole(value.key)
    assert found is not None
    return found


def flag(keys: Keys, value: Value) -> bool:
    """True or false."""
    found = keys.flag(value.key)
    assert found is not None
    return found


def settle(keys: Keys, settings: Iterable[Setting]) -> dict[str, Any]:
    """The value of each setting by its field; its origin is noted."""
    found: dict[str, Any] = {}
    for setting in settings:
        value = keys.get(*setting.keys)
        found[setting.field] = setting.default if value is None else setting.read(keys, value)
        keys.note(setting.field, value, setting.says)
    return found


def changed(workload: Workload, values: Mapping[str, Any]) -> Workload:
    """The workload with values at native paths."""
    for path, value in values.items():
        workload = workload.changed(path, value)
    return workload


def put(reading: Reading, names: Sequence[str], value: Any, beside: Sequence[str] = ()) -> list[Edit]:
    """Edits that make the first of some dotted keys that is written hold a value, or insert the first of all.

    A new key stands behind the first of ``beside`` that its mapping has, or else at the end of it; of dotted
    siblings the last part counts.

    Raises:
        EditRefusedError: it cannot be written without touching something else.
    """
    root = reading.document.root
    name = next((name for name in names if _item(root, name) is not None), names[0])
    parent, _, key = name.rpartition(".")
    mapping = root if not parent else _item(root, parent)
    if not isinstance(mapping, MappingNode):
        raise EditRefusedError(f"there is no {parent} to write {key} into")
    siblings = [sibling.rpartition(".")[2] for sibling in beside]
    anchor = next((sibling for sibling in siblings if mapping.item(sibling) is not None), None)
    return writing.put(reading.document.source, mapping, key, value, anchor)


def _item(node: Node, name: str) -> Node | None:
    """What stands under a dotted key, None if it is not written."""
    found: Node | None = node
    for part in name.split("."):
        item = found.item(part) if isinstance(found, MappingNode) else None
        found = None if item is None else item.value
    return found


def writer(*settings: Setting, beside: Sequence[str] = ()) -> Writer:
    """A writer of settings that are one key each."""

    def write(reading: Reading, after: Workload) -> list[Edit]:
        found: list[Edit] = []
        for setting in settings:
            unit = setting.field.partition(".")[0]
            if getattr(reading.workload, unit) is None or getattr(after, unit) is None:
                if getattr(reading.workload, unit) == getattr(after, unit):
                    continue
                raise EditRefusedError(f"whether there is any {unit} is for a person to decide")
            before, value = reading.workload.at(setting.field), after.at(setting.field)
            if value != before:
                found += put(reading, setting.keys, setting.spell(value), beside)
        return found

    return write


def edits(
    reading: Reading, changes: Sequence[FieldChange], writers: Mapping[str, Writer], framework: str
) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits, all that share a first name together or not at all."""
    after = writing.planned(reading.workload, changes)
    written: list[Edit] = []
    advice: list[Advice] = []
    units: dict[str, list[FieldChange]] = {}
    for change in changes:
        units.setdefault(change[0].partition(".")[0], []).append(change)
    for unit, together in units.items():
        write = writers.get(unit)
        try:
            if write is None:
                raise EditRefusedError(f"{framework} has no key for it that memplan writes")
            written += write(reading, after)
        except EditRefusedError as error:
            advice += [writing.refused(change, error) for change in together]
    return tuple(written), tuple(advice)
