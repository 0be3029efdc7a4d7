"""Asking every tool about every row: errors against what was measured, and CPU time."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.peers_cases import Case
from benchmarks.peers_tools import Call, Figures, Tool
from benchmarks.truth_facts import ALLOCATED, PROCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a tool said of a row, or why it could not be asked. Errors in percent, signed."""

    case: Case
    obstacle: str | None = None
    figures: Figures | None = None
    seconds: float = 0.0

    @property
    def error(self) -> float | None:
        """Of ``max_memory_allocated``."""
        return self._error(ALLOCATED, self.figures.allocated if self.figures else None)

    @property
    def process_error(self) -> float | None:
        """Of what the process used on the GPU, where that was measured and the tool says it."""
        return self._error(PROCESS, self.figures.process if self.figures else None)

    def _error(self, metric: str, estimated: int | None) -> float | None:
        measured = self.case.measured(metric)
        return None if measured is None or estimated is None else 100 * (estimated / measured - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A tool and its answers in the order of the rows; ``missing`` says why there are none."""

    tool: Tool
    answers: tuple[Answer, ...] = ()
    missing: str | None = None

    @property
    def errors(self) -> list[float]:
        """Absolute errors of allocated memory."""
        return [abs(answer.error) for answer in self.answers if answer.error is not None]

    @property
    def process_errors(self) -> list[float]:
        """Absolute errors of the process."""
        return [abs(answer.process_error) for answer in self.answers if answer.process_error is not None]

    @property
    def seconds(self) -> float:
        """CPU time of one estimate at the median."""
        return median(answer.seconds for answer in self.answers if answer.figures)

    @property
    def obstacles(self) -> Counter[str]:
        """How many rows could not be put to the tool, by reason."""
        return Counter(answer.obstacle for answer in self.answers if answer.obstacle)


def ask(tool: Tool, programs: Path, cases: Iterable[Case]) -> Result:
    """Every case put to an installed tool.

    Raises:
        CalledProcessError: the tool failed at a row it should have an answer for.
    """
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            obstacle = tool.obstacle(case)
            if obstacle:
                answers.append(Answer(case=case, obstacle=obstacle))
                continue
            call = tool.call(case, programs, Path(folder))
            if not any(answer.figures for answer in answers):
                run(call)  # The first run of a program compiles its modules and is not timed.
            printed, seconds = run(call)
            answers.append(Answer(case=case, figures=tool.read(printed), seconds=seconds))
    return Result(tool=tool, answers=tuple(answers))


def run(call: Call) -> tuple[str, float]:
    """What a command printed, and the CPU seconds it and its children took.

    Exit code 1 is an answer to most of these tools ("does not fit"); anything else but 0 is a failure.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("MEMPLAN_")}
        process = subprocess.Popen(
            call.arguments, stdout=output, stderr=errors, env=variables | dict(call.variables)
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        printed = output.read()
        if process.returncode not in (0, 1) and not _is_answer(process.returncode, printed):
            raise subprocess.CalledProcessError(process.returncode, call.arguments, printed, errors.read())
        return printed, used.ru_utime + used.ru_stime


def _is_answer(code: int, printed: str) -> bool:
    """memplan exits with 3 where bounds straddle the limit, and prints its estimate all the same."""
    return code == 3 and printed.startswith("{")
