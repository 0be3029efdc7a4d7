"""What to look at after a rewrite: every changed place, what has to be rebuilt, and how to verify."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from memplan.domain.edit import Edit
from memplan.domain.plan import Plan
from memplan.domain.wording import worded

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading

COMPILED = frozenset({".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh", ".h", ".hh", ".hpp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Checklist:
    """Lines for people.

    ``lines`` has ``file:line before → after`` per edit, ``rebuild`` the compiled sources among the
    files, ``outside`` what is set where the run is started, ``verify`` the command that proves the result.
    """

    lines: tuple[str, ...]
    rebuild: tuple[str, ...]
    outside: tuple[str, ...]
    verify: str

    @property
    def notes(self) -> tuple[str, ...]:
        """What the rewrite leaves to do."""
        rebuild = ("C++ sources changed: rebuild before running",) if self.rebuild else ()
        return (*self.outside, *rebuild)


def checklist(reading: Reading, plan: Plan, edits: Sequence[Edit]) -> Checklist:
    """The checklist of a rewrite."""
    compiled = (edit.path for edit in edits if PurePath(edit.path).suffix.lower() in COMPILED)
    return Checklist(
        lines=tuple(_line(edit) for edit in edits),
        rebuild=tuple(dict.fromkeys(compiled)),
        outside=tuple(advice.message for advice in plan.outside),
        verify=_command(reading, plan),
    )


def _line(edit: Edit) -> str:
    place = f"{edit.path}:{edit.line}"
    if edit.span.start == edit.span.end:
        return f"{place} added {' '.join(edit.replacement.strip(' ,').split())}"
    return f"{place} {edit.before} → {edit.after}"


def _command(reading: Reading, plan: Plan) -> str:
    target = plan.after.target
    words = ["memplan", "check", str(reading.path)]
    named = reading.ram if target is not None and target.host_only else reading.gpu
    if target is not None and named != (str(target.ram) if target.host_only else target.name):
        words += target.option.split(" ", 1)
    if reading.given.gpus is not None:
        words += ["--gpus", str(reading.given.gpus)]
    if reading.given.model is not None:
        words += ["--model", reading.given.model]
    for path in reading.given.beside:
        words += ["--with", str(path)]
    # No file says what the environment of the run will be, so it is said to the gate as well.
    for advice in plan.outside:
        words += ["--set", f"{advice.field}={worded(plan.after.workload.at(advice.field))}"]
    return shlex.join(words)
