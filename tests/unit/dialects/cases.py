"""Case files: a config, what it means, changes, and the text or the advice they lead to.

``=== NAME`` starts a part. ``workload`` and ``changes`` hold ``path = value`` lines in native names;
without an ``output`` part the text must not change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memplan.dialects.fields import Value
from memplan.dialects.schema import leaves
from memplan.documents import yaml
from memplan.documents.source import Source

FOLDER = Path(__file__).parents[2] / "golden" / "dialects"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case file."""

    name: str
    file: str
    text: str
    workload: list[tuple[str, Any]] = field(default_factory=list)
    changes: list[tuple[str, Any]] = field(default_factory=list)
    output: str
    advice: list[str] = field(default_factory=list)


def native(path: str, text: str) -> tuple[str, Any]:
    """The workload field of a native path, and its value read from text."""
    source = Source.of(text, path)
    leaf = leaves()[path]
    return leaf.field, leaf.read(Value(source=source, key=path, node=yaml.parse(source)))


def load(path: Path) -> Case:
    """The case in a file."""
    parts: dict[str, str] = {}
    for block in path.read_text(encoding="utf-8").split("=== ")[1:]:
        name, _, text = block.partition("\n")
        parts[name] = text
    file = next(iter(parts))
    return Case(
        name=f"{path.parent.name}/{path.stem}",
        file=file,
        text=parts[file],
        workload=_pairs(parts.get("workload", "")),
        changes=_pairs(parts.get("changes", "")),
        output=parts.get("output", parts[file]),
        advice=parts.get("advice", "").split(),
    )


def all_cases() -> list[Case]:
    """Every case file, in order."""
    return [load(path) for path in sorted(FOLDER.rglob("*.txt"))]


def _pairs(text: str) -> list[tuple[str, Any]]:
    lines = [line.partition(" = ") for line in text.splitlines() if line.strip()]
    return [native(path.strip(), value) for path, _, value in lines]
