"""Values and changes in words, for one line of a report: nothing a user sees is a Python expression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from memplan.domain.architecture import Architecture, DeclaredModel
from memplan.domain.plan import Change
from memplan.domain.workload import Adapter, Checkpointing, Loss, Quantization, World


def in_words(changes: Iterable[Change]) -> str:
    """``checkpointing none → full, batch.micro 8 → 2``."""
    return ", ".join(f"{each.field} {worded(each.before)} → {worded(each.after)}" for each in changes)


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def worded(value: Any) -> str:
    """A workload's value as a person would write it in a config: ``none``, ``true``, ``lora of rank 16``.

    What has no short name of its own is told by its parts that are not the default: ``batch 2``.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, tuple | list | frozenset | set):
        return ", ".join(worded(item) for item in value) or "none"
    return _part(value) if is_dataclass(value) else str(value)


def _part(value: Any) -> str:
    match value:
        case Checkpointing():
            return value.name
        case Loss():
            return f"{value.kind}, {value.chunks} chunks" if value.chunks > 1 else value.kind
        case Adapter():
            return f"{value.kind} of rank {value.rank}"
        case Quantization():
            return value.kind
        case World():
            return _spread(value)
        case Architecture():
            return value.model_type
        case DeclaredModel():
            return "declared"
    return _unusual(value) or "default"


def _spread(world: World) -> str:
    over = "one GPU" if world.data_parallel == 1 else f"{world.data_parallel} GPUs"
    return over if world.sharding == "none" else f"{world.sharding} over {over}"


def _unusual(value: Any) -> str:
    """The parts of a noun that differ from those of a plain one of its kind."""
    try:
        plain = type(value)()
    except TypeError:
        plain = None
    told = [
        (item.name, getattr(value, item.name))
        for item in fields(value)
        if plain is None or getattr(value, item.name) != getattr(plain, item.name)
    ]
    return ", ".join(f"{name.replace('_', ' ')} {worded(part)}" for name, part in told)
