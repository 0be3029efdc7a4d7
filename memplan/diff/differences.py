"""Which settings of two workloads differ, by native path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from memplan.domain.architecture import Architecture, DeclaredModel
from memplan.domain.checkpointing import Checkpointing
from memplan.domain.workload import Loss, Workload

MODEL = "model"
_WHOLE = (Architecture, DeclaredModel, Checkpointing, Loss)
"""Nouns that are told as one value."""

_MOST_KEYS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field (native path, or a declared name) with its values in both workloads.

    ``notes`` tell what differs within a value that is told as one.
    """

    field: str
    before: Any
    after: Any
    notes: tuple[str, ...] = ()


def differences(before: Workload, after: Workload) -> tuple[Difference, ...]:
    """Every difference, the model's first; settings of a part that only one of the two has are one."""
    return (*_models(before, after), *_parts(before, after, ""))


def changed(workload: Workload, difference: Difference) -> Workload:
    """The workload with the value that a field has afterwards."""
    return workload.changed(difference.field, difference.after)


def _parts(before: Any, after: Any, path: str) -> Iterator[Difference]:
    for item in fields(before):
        field = f"{path}{item.name}"
        old, new = getattr(before, item.name), getattr(after, item.name)
        if not item.compare or old == new or field == MODEL:
            continue
        if type(old) is type(new) and is_dataclass(old) and not isinstance(old, _WHOLE):
            yield from _parts(old, new, f"{field}.")
        else:
            yield Difference(field=field, before=old, after=new)


def _models(before: Workload, after: Workload) -> Iterator[Difference]:
    old, new = before.model, after.model
    if old == new:
        return
    if isinstance(old, DeclaredModel) and isinstance(new, DeclaredModel) and old.tensors == new.tensors:
        now = dict(new.values)
        if [name for name, _ in old.values] == [name for name, _ in new.values]:
            yield from (
                Difference(field=name, before=value, after=now[name])
                for name, value in old.values
                if value != now[name]
            )
            return
    yield Difference(field=MODEL, before=old, after=new, notes=tuple(_keys(old, new)))


def _keys(old: Architecture | DeclaredModel, new: Architecture | DeclaredModel) -> Iterator[str]:
    """What differs in two models' shapes: ``num_hidden_layers 16 → 32``."""
    if not (isinstance(old, Architecture) and isinstance(new, Architecture)):
        return
    shown = 0
    for item in fields(old):
        if not hasattr(new, item.name):
            continue  # A family's own shape may say more than another's.
        left, right = getattr(old, item.name), getattr(new, item.name)
        if left != right and isinstance(left, int | str | None) and isinstance(right, int | str | None):
            shown += 1
            if shown <= _MOST_KEYS:
                yield f"{item.name} {left} → {right}"
