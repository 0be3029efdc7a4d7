"""``memplan watch``."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
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
    from memplan.dialects.reading import Reading
    from memplan.domain.target import Target
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

_TIME = re.compile(r"\s*([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*(ms|s|)\s*", re.ASCII)

Command = Annotated[
    list[str] | None, typer.Argument(metavar="COMMAND", help="What to run, as it is.")
]
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
        prediction = _planned(plan_file)
    elif config is not None:
        from memplan.read import read

        values = overridden(overrides, gpus)
        reading = read(
            config, dialect=dialect, overrides=values, model=model, beside=beside or (), online=online
        )
        prediction = _estimated(reading, gpu)
    if strict and prediction is None:
        raise typer.BadParameter("--strict compares with a prediction: give --config or --plan")
    watched = _watched(
        command or [], pid, pause, leave, _observer(prediction, alone=pid is not None, on=live)
    )
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


def _planned(path: Path) -> Prediction:
    from memplan import profiles
    from memplan.apply import plan_file as files
    from memplan.domain.watched import Prediction
    from memplan.read import read

    saved = files.load(path)
    reading = read(
        saved.source,
        dialect=saved.dialect,
        overrides=saved.overrides,
        model=saved.model,
        beside=saved.beside,
    )
    plan = saved.plan(reading, profiles.target(saved.gpu))
    notes: tuple[str, ...] = ()
    if plan.changes:
        notes = (f"{saved.source} does not hold the plan yet: memplan apply --plan {path}",)
        print(f"memplan: {notes[0]}", file=sys.stderr, flush=True)
    return Prediction.of(plan.after, str(path), margin=plan.margin, notes=notes)


def _estimated(reading: Reading, gpu: str | None) -> Prediction:
    from memplan.domain.watched import Prediction
    from memplan.estimate import estimate

    return Prediction.of(estimate(reading.workload, _target(reading, gpu)), str(reading.path))


def _target(reading: Reading, gpu: str | None) -> Target | None:
    """The GPU asked for, else the config's own, else this machine's."""
    from memplan import probe
    from memplan.cli import target
    from memplan.domain.errors import InputError

    found = target.of_reading(reading, gpu)
    if found is not None:
        return found
    try:
        present = probe.devices()
    except InputError:
        return None
    return target.this_machine() if present else None


def _watched(
    command: list[str], pid: int | None, pause: float, leave: bool, observer: Callable[[Moment], None] | None
) -> Watched:
    from memplan.smoke import watch as watching

    if pid is not None:
        return watching.attach(pid, interval=pause, observer=observer)
    return watching.watch(command, interval=pause, leave=leave, observer=observer)


def _observer(prediction: Prediction | None, *, alone: bool, on: bool) -> Callable[[Moment], None] | None:
    """Writes whole lines, which never break another program's; ``alone`` on a terminal, one line in place."""
    if not on:
        return None
    from memplan.reporters.views.watch import line

    in_place = alone and sys.stderr.isatty()
    due = 0.0

    def tell(moment: Moment) -> None:
        nonlocal due
        if not in_place and time.monotonic() < due:
            return
        due = time.monotonic() + LIVE_SECONDS
        text = line(moment, prediction)
        sys.stderr.write(f"\r\x1b[K{text}" if in_place else f"memplan: {text}\n")
        sys.stderr.flush()

    return tell


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
