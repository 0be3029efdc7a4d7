"""What a plan file says: a plan as plain values, section by section."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memplan.dialects import checkpointing_schema
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Edit
from memplan.domain.plan import Change, Plan
from memplan.domain.workload import Checkpointing

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading

SECTIONS = (
    "source",
    "dialect",
    "job",
    "gpu",
    "ram",
    "profile",
    "margin",
    "slowdown",
    "changes",
    "edits",
    "files",
)


def content_of(reading: Reading, plan: Plan, folder: Path) -> dict[str, Any]:
    """The sections of a plan; paths are relative to a folder."""
    target = plan.after.target
    return {
        "source": _relative(reading.path, folder),
        "dialect": reading.dialect,
        "job": {
            "model": reading.given.model,
            "with": [_relative(item, folder) for item in reading.given.beside],
            "set": list(reading.overrides),
        },
        "gpu": target.name if target else "",
        "ram": str(target.ram) if target and target.ram is not None else None,
        "profile": plan.profile,
        "margin": str(plan.margin),
        "slowdown": round(plan.slowdown, 4),
        "changes": [_saved(change) for change in plan.changes],
        "edits": spelled_edits(plan.edits, folder),
        "files": {_relative(name, folder): digest for name, digest in plan.files.items()},
    }


def _saved(change: Change) -> dict[str, Any]:
    return {
        "field": change.field,
        "before": _native(change.before),
        "after": _native(change.after),
        "harm": change.harm.label,
        "reason": change.reason,
        "saves": int(change.saves or 0),
        "slowdown": round(change.slowdown, 4),
        "requires": list(change.requires),
    }


def _native(value: Any) -> Any:
    """A value as the native dialect writes it."""
    if value is None:
        return "none"
    if isinstance(value, Checkpointing):
        return checkpointing_schema.spelled(value)
    if isinstance(value, Dtype):
        return value.label
    if is_dataclass(value):
        return {item.name: _native(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, tuple):
        return [_native(item) for item in value]
    return str(value) if isinstance(value, str) else value


def spelled_edits(edits: Iterable[Edit], folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "path": _relative(edit.path, folder),
            "line": edit.line,
            "before": edit.before,
            "after": edit.after,
        }
        for edit in edits
    ]


def _relative(path: str | Path, folder: Path) -> str:
    return os.path.relpath(path, folder)


def digest(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
