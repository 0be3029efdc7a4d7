"""Options as a list of changes, each with the bytes it saves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Estimate
from memplan.domain.plan import Change, Option
from memplan.domain.workload import Workload


def changes_of(
    workload: Workload, options: Iterable[Option], measure: Callable[[Workload], Estimate]
) -> tuple[Change, ...]:
    """Every field the options change, in order.

    Savings are what each option saves on top of those before it, so that they add up to the whole;
    an option of several fields saves as one, and its first field carries the bytes.
    """
    found: list[Change] = []
    for option in options:
        before = workload
        for field, value in option.changes.items():
            workload = workload.changed(field, value)
        saves = Bytes(measure(before).device.process - measure(workload).device.process)
        for field in option.changes:
            old, new = value_at(before, field), value_at(workload, field)
            found.append(
                Change(
                    field=field, before=old, after=new, harm=option.harm, reason=option.reason, saves=saves
                )
            )
            saves = Bytes(0)
    return tuple(found)


def value_at(workload: Workload, field: str) -> Any:
    """The value of a native path or of a declared name."""
    if isinstance(workload.model, DeclaredModel) and field in dict(workload.model.values):
        return workload.model.value(field)
    return workload.at(field)
