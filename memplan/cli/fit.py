"""``memplan fit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.application import application
from memplan.cli.coercion import PlainCommand
from memplan.cli.options import (
    AllowedHarm,
    AllowHarm,
    Beside,
    ConfigPath,
    DialectName,
    Format,
    FormatOption,
    GpuCount,
    GpuName,
    Keep,
    Margin,
    ModelName,
    Online,
    Overrides,
    ProfileName,
    Ram,
    harm,
    overridden,
)
from memplan.cli.output import emit_plan, plan_exit_code

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading
    from memplan.domain.plan import Plan

app = application()


EPILOG = """\b
Examples:
  memplan fit train.yml --gpu rtx3090
  memplan fit train.yml --gpu rtx3090 --margin 1GiB --keep sequence.length
  memplan fit train.yml --gpu gtx1650 --allow behaviour --out plan.yaml
\b
Exit codes: 0 a plan that fits; 1 nothing allowed makes it fit; 2 bad input; 3 undecided.
"""


@app.command(cls=PlainCommand, epilog=EPILOG)
def fit(
    path: ConfigPath,
    gpu: GpuName = None,
    gpus: GpuCount = None,
    ram: Ram = None,
    profile: ProfileName = None,
    margin: Margin = None,
    allow: AllowHarm = AllowedHarm.EXACT,
    keep: Keep = None,
    overrides: Overrides = None,
    model: ModelName = None,
    beside: Beside = None,
    dialect: DialectName = None,
    online: Online = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the plan here, for memplan apply --plan."),
    ] = None,
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Find the change that does least harm, then costs least time, and makes the run fit."""
    from memplan.cli import target
    from memplan.fit import fit as search
    from memplan.read import read

    reading = read(
        path,
        dialect=dialect,
        overrides=overridden(overrides, gpus),
        model=model,
        beside=beside or (),
        online=online,
    )
    where = target.required(reading, gpu, ram)
    plan = search(reading, where, profile=profile, margin=margin, allow=harm(allow), keep=keep or ())
    if out is not None and plan.feasible:
        _save(reading, plan, out)
    emit_plan(reading, plan, form)
    raise typer.Exit(plan_exit_code(plan))


def _save(reading: Reading, plan: Plan, out: Path) -> None:
    from memplan.apply import plan_file

    plan_file.write(reading, plan, out)
