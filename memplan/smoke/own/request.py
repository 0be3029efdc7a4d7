"""What the process that runs a user's code is asked, and how it complains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memplan.domain.own_model import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Run what ``name`` of a file gives within ``memory`` bytes; ``fake``: on tensors without any."""

    file: Path
    name: str
    shapes: tuple[Shape, ...]
    memory: int
    fake: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """An error of the user's code; ``kind`` is empty if nothing was raised but what was named is no model.

    ``line`` is 0 if no line of theirs was running.
    """

    kind: str
    message: str
    path: str
    line: int
    column: int = 1
    memory: bool = False
