"""Standard output and the exit code: how an answer leaves the process."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from memplan.domain.errors import FileAccessError
from memplan.domain.estimate import Verdict

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading
    from memplan.domain.plan import Plan
    from memplan.reporters.blocks import Report

_CODES = {None: 0, Verdict.FITS: 0, Verdict.DOES_NOT_FIT: 1, Verdict.UNDECIDED: 3}


def emit(text: str, stream: TextIO | None = None) -> None:
    """Write a report, to standard output by default.

    A reader that went away (``| head``) is no error and does not change the exit code.

    Raises:
        FileAccessError: the disk that the output goes to is full.
    """
    into = stream or sys.stdout
    try:
        into.write(text if text.endswith("\n") or not text else text + "\n")
        into.flush()
    except BrokenPipeError:
        _discard(into)
    except OSError as error:
        _discard(into)
        reason = (error.strerror or str(error)).lower()
        raise FileAccessError(f"the report cannot be written: {reason}") from None


def _discard(stream: TextIO) -> None:
    """What is left in the buffer would raise again when the interpreter closes the stream."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def emit_report(report: Report, form: str, stream: TextIO | None = None) -> None:
    """Write blocks as ``terminal`` or as ``markdown``, to standard output by default."""
    from memplan.reporters import markdown, terminal

    emit(markdown.render(report) if form == markdown.NAME else terminal.render(report, stream), stream)


def emit_plan(reading: Reading, plan: Plan, form: str) -> None:
    """Write a plan in any of the forms that every answer can take."""
    from memplan.reporters import json
    from memplan.reporters.views.plan import report

    if form == json.NAME:
        emit(json.render(json.plan(reading, plan)))
    else:
        emit_report(report(reading, plan), form)


def exit_code(verdict: Verdict | None) -> int:
    """0 fits (or nothing was asked), 1 does not fit, 3 cannot be decided."""
    return _CODES[verdict]


def plan_exit_code(plan: Plan) -> int:
    """0 a plan that fits, 3 when the closest plan's bounds straddle the limit, else 1."""
    if plan.feasible:
        return 0
    return _CODES[Verdict.UNDECIDED] if plan.after.verdict is Verdict.UNDECIDED else 1
