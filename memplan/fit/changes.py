"""Options as a list of changes, each with the bytes it saves and the time it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Estimate
from memplan.domain.plan import Change, Option
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.levers.cost import slowdown

Measure = Callable[[Workload], Estimate]


def changes_of(
    workload: Workload, options: Iterable[Option], measure: Measure | None, target: Target | None
) -> tuple[Change, ...]:
    """Every field the options change, in order.

    Savings are what each option saves on top of those before it, so that they add up to the whole; so do
    slowdowns, as a product. An option of several fields counts as one, and its first field carries the
    figures. Without ``measure`` savings are left out.
    """
    found: list[Change] = []
    for option in options:
        after = workload
        for field, value in option.changes.items():
            after = after.changed(field, value)
        saves = _saved(workload, after, measure)
        found.extend(_changes(workload, after, option, saves, slowdown(workload, after, target)))
        workload = after
    return tuple(found)


def _saved(before: Workload, after: Workload, measure: Measure | None) -> Bytes | None:
    if measure is None:
        return None
    old, new = measure(before), measure(after)
    if before.on_host and after.on_host:
        return Bytes(old.host.peak - new.host.peak)
    return Bytes(old.device.process - new.device.process)


def _changes(
    before: Workload, after: Workload, option: Option, saves: Bytes | None, time: float
) -> Iterator[Change]:
    for first, field in enumerate(option.changes):
        yield Change(
            field=field,
            before=value_at(before, field),
            after=value_at(after, field),
            harm=option.harm,
            reason=option.reason,
            saves=saves if first == 0 or saves is None else Bytes(0),
            slowdown=round(time, 4) if first == 0 else 1.0,
            requires=option.requires,
        )


def value_at(workload: Workload, field: str) -> Any:
    """The value of a native path or of a declared name."""
    if isinstance(workload.model, DeclaredModel) and field in dict(workload.model.values):
        return workload.model.value(field)
    return workload.at(field)
