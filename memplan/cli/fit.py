"""``memplan fit``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    FreeRam,
    GpuCount,
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
from memplan.cli.output import emit, emit_plan, emit_report, plan_exit_code
from memplan.domain.errors import InputError

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading
    from memplan.domain.plan import Plan
    from memplan.domain.target import Target

app = application()


EPILOG = """\b
Examples:
  memplan fit train.yml --gpu rtx3090
  memplan fit train.yml --gpu rtx3090 --margin 1GiB --keep sequence.length
  memplan fit train.yml --gpu gtx1650 --allow behaviour --out plan.yaml
  memplan fit train.yml --gpu any             every GPU it fits on, the smallest first
  memplan fit configs/ --gpu rtx3090          every config below the folder
\b
A folder that is one job (a model directory, a memplan.yaml, one config) is planned as that job; of any other,
and with --all of every folder, each config below it is planned.
\b
Exit codes: 0 a plan that fits; 1 nothing allowed makes it fit; 2 bad input; 3 undecided.
"""


@app.command(cls=PlainCommand, epilog=EPILOG)
def fit(
    path: ConfigPath,
    gpu: Annotated[
        str | None,
        typer.Option(
            "--gpu",
            metavar="NAME|auto|any|SIZE",
            help="Where it has to fit: a GPU (memplan gpus lists them), this machine's (auto, auto:1), 24GiB,"
            " or every GPU (any), ranked. Default: the target the config names.",
        ),
    ] = None,
    gpus: GpuCount = None,
    ram: Ram = None,
    free_ram: FreeRam = None,
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
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the plan here, for memplan apply --plan; of a folder, every plan into this folder.",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Plan every config below the folder, even if it is one job.")
    ] = False,
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Find the change that does least harm, then costs least time, and makes the run fit."""
    given = {"dialect": dialect, "overrides": overridden(overrides, gpus), "online": online}
    policy = {"profile": profile, "margin": margin, "allow": harm(allow), "keep": keep or ()}
    from memplan.cli.target import ANY, free_of

    ram = free_of(ram, free_ram)
    anywhere = gpu is not None and gpu.strip().lower() == ANY
    if anywhere and (out is not None or every):
        raise InputError(
            "--out and --all need one GPU", hint="memplan fit PATH --gpu any says which there are"
        )
    if anywhere:
        code = _anywhere(path, ram, given | {"model": model, "beside": beside or ()}, policy, form)
    elif _holds_several(path, every=every):
        if dialect or beside:
            raise InputError(
                "--dialect and --with belong to one config", hint=f"not to all of those in {path}"
            )
        code = _folder(Path(path), gpu, ram, given, model, policy, out, form)
    else:
        code = _one(path, gpu, ram, given | {"model": model, "beside": beside or ()}, policy, out, form)
    raise typer.Exit(code)


def _holds_several(path: str, *, every: bool) -> bool:
    """Whether a path is a folder of configs rather than one job."""
    try:
        if not Path(path).is_dir():
            return False
    except (OSError, ValueError):
        return False
    from memplan.fit.folder import is_one_job

    return every or not is_one_job(Path(path))


def _one(
    path: str,
    gpu: str | None,
    ram: str | None,
    given: dict[str, Any],
    policy: dict[str, Any],
    out: Path | None,
    form: Format,
) -> int:
    from memplan.cli import target
    from memplan.fit import fit as search
    from memplan.read import read

    reading = read(path, **given)
    plan = search(reading, target.required(reading, gpu, ram), **policy)
    if out is not None and plan.feasible:
        _save(reading, plan, out)
    emit_plan(reading, plan, form)
    return plan_exit_code(plan)


def _anywhere(path: str, ram: str | None, given: dict[str, Any], policy: dict[str, Any], form: Format) -> int:
    from memplan import profiles
    from memplan.cli import target
    from memplan.cli.progress import progress
    from memplan.fit.anywhere import Standing, rank
    from memplan.read import read
    from memplan.reporters import json
    from memplan.reporters.views import anywhere as view

    reading = read(path, **given)
    if reading.workload.on_host:
        raise InputError(f"{reading.path} runs in host memory, on no GPU", hint="say how much: --ram 16GiB")
    gpus = profiles.gpus()
    memory = None if ram is None else target.amount(ram, "--ram")
    with progress("ranking", len(gpus)) as advance:
        ranked = rank(reading, gpus, ram=memory, policy=policy, advance=advance)
    if form is Format.JSON:
        emit(json.render(view.payload(reading, ranked)))
    else:
        emit_report(view.report(reading, ranked), form)
    if any(each.fits for each in ranked):
        return 0
    return 3 if any(each.standing is Standing.UNDECIDED for each in ranked) else 1


def _folder(
    path: Path,
    gpu: str | None,
    ram: str | None,
    given: dict[str, Any],
    model: str | None,
    policy: dict[str, Any],
    out: Path | None,
    form: Format,
) -> int:
    from memplan.cli import target
    from memplan.cli.progress import progress
    from memplan.fit.folder import plan_folder
    from memplan.fit.outcome import Request
    from memplan.fit.walk import files
    from memplan.reporters import json
    from memplan.reporters.views import folder as view

    where = target.chosen(gpu, None, ram) if gpu is not None else None
    request = Request(
        target=partial(target.required, asked=gpu, ram=ram) if where is None else partial(_always, where),
        reading=given,
        policy=policy,
        model=model,
        save=None if out is None else partial(_save_below, out, path),
    )
    paths = files(path)
    with progress("planning", len(paths)) as advance:
        found = plan_folder(path, paths, request, advance=advance)
    if form is Format.JSON:
        emit(json.render(view.payload(found)))
    else:
        emit_report(view.report(found), form)
    return found.exit_code


def _always(target: Target, _reading: Reading) -> Target:
    return target


def _save(reading: Reading, plan: Plan, out: Path) -> None:
    from memplan.apply import plan_file

    plan_file.write(reading, plan, out)


def _save_below(out: Path, folder: Path, reading: Reading, plan: Plan, path: Path) -> Path:
    """Save a plan at the place below ``out`` that its config has below the folder."""
    place = out / path.relative_to(folder)
    saved = place.with_name(f"{place.name}.plan.yaml")
    saved.parent.mkdir(parents=True, exist_ok=True)
    _save(reading, plan, saved)
    return saved
