"""``memplan smoke``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from memplan.cli.application import application
from memplan.cli.coercion import PlainCommand
from memplan.cli.options import (
    Beside,
    ConfigPath,
    DialectName,
    Format,
    FormatOption,
    GpuName,
    ModelName,
    Online,
    Overrides,
)
from memplan.cli.output import emit, emit_report

app = application()


EPILOG = """\b
Examples:
  memplan smoke train.yml --gpu rtx3090
  memplan smoke ./model-dir --set checkpointing=full --format json
\b
Exit codes: 0 the prediction is within 0.1 % or 1 MiB of what was seen; 1 it is not; 2 bad input.
"""


class Device(StrEnum):
    """What a smoke test runs on: ``fake`` runs the real classes on tensors without bytes."""

    FAKE = "fake"


DeviceOption = Annotated[
    Device,
    typer.Option("--device", help="What to run on: fake runs the real classes on tensors without bytes."),
]


@app.command(cls=PlainCommand, epilog=EPILOG)
def smoke(
    path: ConfigPath,
    device: DeviceOption = Device.FAKE,  # noqa: ARG001 -- there is one so far
    gpu: GpuName = None,
    overrides: Overrides = None,
    model: ModelName = None,
    beside: Beside = None,
    dialect: DialectName = None,
    online: Online = False,
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Run the real libraries and compare what they allocate with the prediction, phase by phase."""
    from memplan.cli import target
    from memplan.read import read
    from memplan.reporters.views.smoke import payload, report
    from memplan.smoke import fake

    reading = read(
        path, dialect=dialect, overrides=overrides or (), model=model, beside=beside or (), online=online
    )
    found = fake(reading.workload, target.of_reading(reading, gpu))
    if form is Format.JSON:
        from memplan.reporters import json

        emit(json.render(payload(reading, found)))
    else:
        emit_report(report(reading, found), form)
    raise typer.Exit(0 if found.passed else 1)
