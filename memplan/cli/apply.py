"""``memplan apply``."""

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
    DialectName,
    Format,
    FormatOption,
    FreeRam,
    GpuCount,
    GpuName,
    Keep,
    Margin,
    ModelName,
    Online,
    ProfileName,
    Ram,
    harm,
    overridden,
)
from memplan.cli.output import emit, emit_plan, emit_report, plan_exit_code

if TYPE_CHECKING:
    from memplan.apply import Applied
    from memplan.dialects.reading import Reading
    from memplan.domain.plan import Plan

app = application()


EPILOG = """\b
Examples:
  memplan apply train.yml --gpu rtx3090 --diff      show the rewrite, write nothing
  memplan apply train.yml --gpu rtx3090 --backup    rewrite, keep train.yml.orig
  memplan apply --plan plan.yaml                    a plan that memplan fit --out wrote
  memplan apply --undo train.yml                    take back what was rewritten with --backup
\b
Exit codes: 0 written, or nothing to change; 1 nothing allowed makes it fit; 2 bad input; 3 undecided.
"""

OptionalPath = Annotated[
    str | None, typer.Argument(metavar="[PATH]", help="The config to rewrite; a plan knows its own.")
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE", help="Apply this plan instead of making one.")
]


@app.command(cls=PlainCommand, epilog=EPILOG)
def apply(
    path: OptionalPath = None,
    gpu: GpuName = None,
    gpus: GpuCount = None,
    ram: Ram = None,
    free_ram: FreeRam = None,
    plan_file: PlanFile = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show the rewrite as a diff and write nothing.")
    ] = False,
    backup: Annotated[bool, typer.Option("--backup", help="Keep each original as NAME.orig.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Restore what the last apply with --backup changed.")
    ] = False,
    profile: ProfileName = None,
    margin: Margin = None,
    allow: AllowHarm = AllowedHarm.EXACT,
    keep: Keep = None,
    model: ModelName = None,
    beside: Beside = None,
    dialect: DialectName = None,
    online: Online = False,
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Rewrite the config in place so that it fits: the planned values and not another byte."""
    from memplan.apply import apply as rewrite
    from memplan.cli.target import free_of

    memory = free_of(ram, free_ram)
    given: dict[str, object]
    if undo:
        given = {
            "--gpu": gpu,
            "--plan": plan_file,
            "--profile": profile,
            "--margin": margin,
        }
        given |= {"--backup": backup, "--keep": keep, "--dialect": dialect, "--gpus": gpus}
        given |= {"--model": model, "--with": beside, "--ram": ram, "--free-ram": free_ram}
        _undo(path, [name for name, value in given.items() if value], diff, form)
        return
    if plan_file is not None:
        given = {"--profile": profile, "--margin": margin, "--keep": keep, "--gpus": gpus}
        given |= {"--model": model, "--with": beside}
        reading, plan = _saved(plan_file, path, gpu, memory, [name for name, value in given.items() if value])
    else:
        from memplan.read import read

        if path is None:
            raise typer.BadParameter("give a PATH, or a plan with --plan")
        reading = read(
            path,
            dialect=dialect,
            overrides=overridden(None, gpus),
            model=model,
            beside=beside or (),
            online=online,
        )
        plan = _planned(reading, gpu, memory, profile, margin, allow, keep)
    if not plan.feasible:
        emit_plan(reading, plan, form)
        raise typer.Exit(plan_exit_code(plan))
    _print(reading, plan, rewrite(reading, plan, backup=backup, dry_run=diff), form)


def _undo(path: str | None, beside: list[str], diff: bool, form: Format) -> None:
    from memplan.apply.undo import undo
    from memplan.reporters import json
    from memplan.reporters.views.undone import payload, report

    if path is None:
        raise typer.BadParameter("give the PATH of the config to restore")
    if beside:
        raise typer.BadParameter(f"--undo takes a PATH and --diff: leave out {', '.join(beside)}")
    undone = undo(path, dry_run=diff)
    if form is Format.JSON:
        emit(json.render(payload(undone)))
    else:
        emit_report(report(undone), form)


def _planned(
    reading: Reading,
    gpu: str | None,
    ram: str | None,
    profile: str | None,
    margin: str | None,
    allow: AllowedHarm,
    keep: list[str] | None,
) -> Plan:
    from memplan.cli import target
    from memplan.fit import fit

    where = target.required(reading, gpu, ram)
    return fit(reading, where, profile=profile, margin=margin, allow=harm(allow), keep=keep or ())


def _saved(
    plan_file: Path, path: str | None, gpu: str | None, ram: str | None, beside: list[str]
) -> tuple[Reading, Plan]:
    """The plan of a file; a PATH or GPU given as well has to be the plan's own.

    Host memory that is given counts instead of what was there when the plan was made.
    """
    from memplan import profiles
    from memplan.apply import plan_file as files
    from memplan.cli import target
    from memplan.domain.errors import InputError
    from memplan.read import read

    if beside:
        raise typer.BadParameter(f"--plan says it all: leave out {', '.join(beside)}")
    saved = files.load(plan_file)
    if path is not None and Path(path).resolve() != saved.source.resolve():
        raise InputError(f"{plan_file} is a plan for {saved.source}, not for {path}")
    if gpu is not None and profiles.target(gpu).name != saved.gpu:
        raise InputError(f"{plan_file} is a plan for {saved.gpu}, not for {gpu}")
    reading = read(
        saved.source,
        dialect=saved.dialect,
        overrides=saved.overrides,
        model=saved.model,
        beside=saved.beside,
    )
    memory = saved.ram if ram is None else ram
    reckoned = None if memory is None else target.amount(memory, "--ram")
    here = target.this_host(None, ram) if reading.workload.on_host else None
    return reading, saved.plan(reading, here or profiles.target(saved.gpu, ram=reckoned))


def _print(reading: Reading, plan: Plan, applied: Applied, form: Format) -> None:
    from memplan.reporters import json
    from memplan.reporters.views.applied import report

    if form is Format.JSON:
        emit(json.render(json.applied(applied)))
    else:
        emit_report(report(reading, plan, applied), form)
