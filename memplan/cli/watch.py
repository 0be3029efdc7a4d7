"""``memplan watch``."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.application import application
from memplan.cli.coercion import PlainCommand
from memplan.cli.options import (
    Beside,
    DialectName,
    Format,
    FormatOption,
    GpuCount,
    GpuName,
    ModelName,
    Online,
    Overrides,
    overridden,
)
from memplan.cli.output import emit, emit_report

if TYPE_CHECKING:
    from memplan.domain.watched import Moment, Prediction, Watched

app = application()


EPILOG = """\b
Examples:
  memplan watch -- python train.py --lr 3e-4
  memplan watch --config train.yml --gpu rtx3090 --strict -- accelerate launch train.py
  memplan watch --plan plan.yaml --out record.json -- python train.py
  memplan watch --pid 4711 --live
\b
The report goes to standard error, or with --pid to standard output: the command's own output is untouched.
A command may tell its phases by appending lines to the file that $MEMPLAN_PHASES names.
\b
Exit codes: the command's own (128 and the signal's number after a signal). With --strict, when that is 0:
1 it took more than the prediction's upper bound; 3 nothing can be compared. 2 bad input, nothing was run.
"""

SOONEST, LATEST = 0.01, 3600.0
LIVE_SECONDS = 5.0
"""Between two lines of ``--live``, at least."""

_ERASED = "\r\x1b[K"
"""Back to the start of a terminal's line, and nothing on it."""

_TIME = re.compile(r"\s*([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*(ms|s|)\s*", re.ASCII)

Command = Annotated[list[str] | None, typer.Argument(metavar="COMMAND", help="What to run, as it is.")]
ConfigFile = Annotated[
    str | None,
    typer.Option("--config", metavar="PATH", help="The config the command trains by, to compare with."),
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE", help="Compare with this plan of memplan fit --out.")
]
Pid = Annotated[
    int | None,
    typer.Option("--pid", metavar="N", min=1, help="Watch a process that runs already, and its descendants."),
]
Interval = Annotated[str, typer.Option("--interval", metavar="TIME", help="Between two looks: 0.5s, 200ms.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the figures here, as JSON.")]
Live = Annotated[
    bool, typer.Option("--live", help="Say on standard error what is in use, a line every five seconds.")
]
Leave = Annotated[
    bool,
    typer.Option("--leave", help="Let processes that outlive the command run on instead of ending them."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with 1 when more was taken than the prediction's upper bound.")
]


@app.command(cls=PlainCommand, epilog=EPILOG, context_settings={"allow_interspersed_args": False})
def watch(
    command: Command = None,
    plan_file: PlanFile = None,
    config: ConfigFile = None,
    gpu: GpuName = None,
    gpus: GpuCount = None,
    overrides: Overrides = None,
    model: ModelName = None,
    beside: Beside = None,
    dialect: DialectName = None,
    online: Online = False,
    pid: Pid = None,
    interval: Interval = "0.5s",
    live: Live = False,
    leave: Leave = False,
    strict: Strict = False,
    out: Out = None,
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Run a command unchanged, and report the GPU and host memory it took against the prediction."""
    given = {"--gpu": gpu, "--gpus": gpus, "--set": overrides, "--model": model, "--with": beside}
    _consistent(command, pid, config, plan_file, given | {"--dialect": dialect, "--online": online})
    pause = seconds(interval)
    if out is not None:
        _writable(out)
    prediction: Prediction | None = None
    if plan_file is not None:
        from memplan.cli.prediction import planned

        prediction = planned(plan_file)
    elif config is not None:
        from memplan.cli.prediction import estimated
        from memplan.read import read

        values = overridden(overrides, gpus)
        reading = read(
            config, dialect=dialect, overrides=values, model=model, beside=beside or (), online=online
        )
        prediction = estimated(reading, gpu)
    if strict and prediction is None:
        raise typer.BadParameter("--strict compares with a prediction: give --config or --plan")
    telling = LiveLine(prediction, alone=pid is not None) if live else None
    watched = _watched(command or [], pid, pause, leave, telling)
    if telling is not None:
        telling.close()
    _report(watched, prediction, form, out)
    raise typer.Exit(_exit_code(watched, prediction, strict=strict))


def seconds(text: str) -> float:
    """A time such as ``0.5s``, ``200ms`` or ``2`` (seconds).

    Raises:
        FieldError: it is none, or not between 10 ms and an hour.
    """
    from memplan.domain.errors import FieldError

    match = _TIME.fullmatch(text)
    found = float(match[1]) * (0.001 if match[2] == "ms" else 1) if match else 0.0
    if not SOONEST <= found <= LATEST:
        said = "is not a time" if match is None else "is out of range"
        raise FieldError(f"--interval: {text!r} {said}", expected="10ms to 3600s, such as 0.5s")
    return found


def _consistent(
    command: list[str] | None,
    pid: int | None,
    config: str | None,
    plan_file: Path | None,
    given: Mapping[str, object],
) -> None:
    if (pid is None) == (not command):
        raise typer.BadParameter("give a command after --, or a process with --pid")
    if config is not None and plan_file is not None:
        raise typer.BadParameter("give --config or --plan, not both")
    said = [name for name, value in given.items() if value]
    if said and config is None:
        raise typer.BadParameter(f"{', '.join(said)} needs --config PATH")


def _writable(path: Path) -> None:
    """Complains before an hour's run, not after it."""
    from memplan.domain.errors import FileAccessError

    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise FileAccessError(f"{path} cannot be written")


def _watched(
    command: list[str], pid: int | None, pause: float, leave: bool, observer: LiveLine | None
) -> Watched:
    from memplan.smoke import watch as watching

    if pid is not None:
        return watching.attach(pid, interval=pause, observer=observer)
    return watching.watch(command, interval=pause, leave=leave, observer=observer)


class LiveLine:
    """Says what is in use: in whole lines, which break no others; ``alone`` on a terminal, in one place."""

    def __init__(self, prediction: Prediction | None, *, alone: bool) -> None:
        self._prediction = prediction
        self._in_place = alone and sys.stderr.isatty()
        self._due = 0.0

    def __call__(self, moment: Moment) -> None:
        """Say it, if it is time."""
        from memplan.reporters.views.watch import line

        if not self._in_place and time.monotonic() < self._due:
            return
        self._due = time.monotonic() + LIVE_SECONDS
        text = line(moment, self._prediction)
        sys.stderr.write(f"{_ERASED}{text}" if self._in_place else f"memplan: {text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Leave no line behind that the report would stand beside."""
        if self._in_place:
            sys.stderr.write(_ERASED)
            sys.stderr.flush()


def _report(watched: Watched, prediction: Prediction | None, form: Format, out: Path | None) -> None:
    """To the stream that nobody else uses, and to ``out``; failing to write that is said, and no more."""
    from memplan.reporters import json
    from memplan.reporters.views.watch import payload, report

    stream = sys.stdout if watched.ending.code is None else sys.stderr
    if form is Format.JSON:
        emit(json.render(payload(watched, prediction)), stream)
    else:
        emit_report(report(watched, prediction), form, stream)
    if out is None:
        return
    try:
        out.write_text(json.render(payload(watched, prediction)), encoding="utf-8")
    except OSError as error:
        emit(f"error: {out} cannot be written: {(error.strerror or str(error)).lower()}", sys.stderr)


def _exit_code(watched: Watched, prediction: Prediction | None, *, strict: bool) -> int:
    from memplan.domain.watched import within

    if watched.ending.code or not strict or prediction is None:
        return watched.ending.code or 0
    return {True: 0, False: 1, None: 3}[within(watched, prediction)]
