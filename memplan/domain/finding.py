"""What the gate found, and where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How serious a finding is; only errors fail the gate."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One statement about one line of one file, and what would mend it."""

    path: str
    line: int
    code: str
    level: Level
    message: str
    fix: str | None = None
