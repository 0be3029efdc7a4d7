"""Changes in words, for one line of a report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memplan.domain.plan import Change
from memplan.domain.workload import Adapter, Checkpointing


def in_words(changes: Iterable[Change]) -> str:
    """``checkpointing none → full, batch.micro 8 → 2``."""
    return ", ".join(f"{change.field} {_word(change.before)} → {_word(change.after)}" for change in changes)


def _word(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Checkpointing):
        return value.name
    if isinstance(value, Adapter):
        return f"{value.kind} of rank {value.rank}"
    return str(value)
