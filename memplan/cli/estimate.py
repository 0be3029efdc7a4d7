"""``memplan estimate``."""

from __future__ import annotations

import typer

from memplan.cli.application import application
from memplan.cli.coercion import PlainCommand
from memplan.cli.options import (
    Beside,
    ConfigPath,
    DialectName,
    Format,
    FormatOption,
    FreeRam,
    GpuCount,
    GpuName,
    ModelName,
    Online,
    Overrides,
    Ram,
    overridden,
)
from memplan.cli.output import emit, emit_report, exit_code

app = application()


EPILOG = """\b
Examples:
  memplan estimate train.yml --gpu rtx3090
  memplan estimate train.yml --gpu 24GiB --set sequence.length=8192
  memplan estimate ./model-dir --gpu auto --format json
  memplan estimate fsdp.yml --gpu h100-sxm --gpus 8
\b
Exit codes: 0 fits, or no target is known; 1 does not fit; 2 bad input; 3 undecided.
"""


@app.command(cls=PlainCommand, epilog=EPILOG)
def estimate(
    path: ConfigPath,
    gpu: GpuName = None,
    gpus: GpuCount = None,
    ram: Ram = None,
    free_ram: FreeRam = None,
    overrides: Overrides = None,
    model: ModelName = None,
    beside: Beside = None,
    dialect: DialectName = None,
    online: Online = False,
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Say where every byte goes, when the peak is, and whether it fits."""
    from memplan.cli import target
    from memplan.estimate import estimate as simulate
    from memplan.read import read

    reading = read(
        path,
        dialect=dialect,
        overrides=overridden(overrides, gpus),
        model=model,
        beside=beside or (),
        online=online,
    )
    found = simulate(reading.workload, target.of_reading(reading, gpu, target.free_of(ram, free_ram)))
    if form is Format.JSON:
        from memplan.reporters import json

        emit(json.render(json.estimate(reading, found)))
    else:
        from memplan.reporters.views.estimate import report

        emit_report(report(reading, found), form)
    raise typer.Exit(exit_code(found.verdict))
