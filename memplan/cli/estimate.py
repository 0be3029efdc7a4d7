"""``memplan estimate``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from memplan.cli.application import application
from memplan.cli.options import ConfigPath, DialectName, GpuName, Overrides, Ram
from memplan.cli.output import emit, exit_code

app = application()


class Format(StrEnum):
    """Forms an estimate can take."""

    TERMINAL = "terminal"
    JSON = "json"
    MARKDOWN = "markdown"


EPILOG = """\b
Examples:
  memplan estimate train.yml --gpu rtx3090
  memplan estimate train.yml --gpu 24GiB --set sequence.length=8192
  memplan estimate ./model-dir --gpu auto --format json
\b
Exit codes: 0 fits, or no target is known; 1 does not fit; 2 bad input; 3 undecided.
"""


@app.command(epilog=EPILOG)
def estimate(
    path: ConfigPath,
    gpu: GpuName = None,
    ram: Ram = None,
    overrides: Overrides = None,
    dialect: DialectName = None,
    form: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.TERMINAL,
) -> None:
    """Say where every byte goes, when the peak is, and whether it fits."""
    from memplan.cli import target
    from memplan.estimate import estimate as simulate
    from memplan.read import read

    reading = read(path, dialect=dialect, overrides=overrides or ())
    found = simulate(reading.workload, target.chosen(gpu, reading.gpu, ram))
    if form is Format.JSON:
        from memplan.reporters import json

        emit(json.render(json.estimate(reading, found)))
    else:
        from memplan.reporters import markdown, terminal
        from memplan.reporters.views.estimate import report

        emit((markdown if form is Format.MARKDOWN else terminal).render(report(reading, found)))
    raise typer.Exit(exit_code(found.verdict))
