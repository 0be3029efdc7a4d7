"""``memplan smoke``."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
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
    GpuName,
    Online,
    Overrides,
    overridden,
)
from memplan.cli.output import emit, emit_report

if TYPE_CHECKING:
    from memplan.cli.job import Job
    from memplan.domain.bytes import Bytes
    from memplan.domain.measurement import Comparison
    from memplan.domain.target import Target

app = application()


EPILOG = """\b
Examples:
  memplan smoke train.yml --gpu rtx3090
  memplan smoke train.yml --device cpu --steps 5
  memplan smoke train.yml --device cpu --cap 2GiB
  memplan smoke plan.yaml --device cpu --scaled
  memplan smoke fsdp.yml --device cpu --gpus 4
  memplan smoke --model nets/model.py:build --shape input_ids=1x128:int64
  memplan smoke plan.yaml --device cuda --gpu gtx1650 --snapshot out.pickle
\b
Exit codes: 0 the run went as predicted: allocated memory within 0.1 % or 1 MiB of what was seen, on a CPU
0.5 % or 64 KiB, and resident memory within 6 %, on a GPU 0.3 %, and reserved memory within 2 %; 1 it did
not, or was out of memory; 2 bad input.
"""


class Device(StrEnum):
    """What a smoke test runs on: ``fake`` runs the real classes on tensors without bytes."""

    FAKE = "fake"
    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


DeviceOption = Annotated[
    Device,
    typer.Option(
        "--device",
        help="What to run on: tensors without bytes as on a GPU (fake), this machine's processor (cpu) or GPU"
        " (cuda), or the better of the two (auto).",
    ),
]
Steps = Annotated[
    int, typer.Option("--steps", metavar="N", min=1, max=1000, help="Optimizer steps, or calls of generate.")
]
Cap = Annotated[
    str | None,
    typer.Option(
        "--cap",
        metavar="SIZE",
        help="Let the run allocate (on a GPU: reserve) no more than this, such as 2GiB, and say what it dies"
        " of. Default: what the GPU leaves PyTorch, if one is named.",
    ),
]
Scaled = Annotated[
    bool,
    typer.Option(
        "--scaled", help="Run a model too large for this machine with a few of its layers, and scale up."
    ),
]
Snapshot = Annotated[
    Path | None,
    typer.Option(
        "--snapshot",
        metavar="FILE",
        help="Write every allocation on the GPU here, as PyTorch records it for pytorch.org/memory_viz.",
    ),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        metavar="N",
        min=1,
        help="Data-parallel GPUs: --device cpu runs a process for each and says what every one holds."
        " Default: what the config says, else 1.",
    ),
]

Record = Annotated[
    Path | None,
    typer.Option(
        "--record",
        metavar="FILE",
        help="Append what a CPU or a GPU measured here. Default: $MEMPLAN_CALIBRATION, else"
        " memplan/calibration.yaml in $XDG_DATA_HOME or ~/.local/share, which --gpu auto reads.",
    ),
]
NoRecord = Annotated[bool, typer.Option("--no-record", help="Append it nowhere.")]

MaybePath = Annotated[
    str | None,
    typer.Argument(
        metavar="PATH",
        help="A training config, a plan, a model directory, a memplan.yaml, or a directory that holds one.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="ID|DIR|FILE.py:NAME",
        help="The model, for a file that names none. In place of PATH, what a function of a Python file"
        " makes: this runs that file.",
    ),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="[NAME=]SIDES[:TYPE]",
        help="An input of --model FILE.py:NAME, such as input_ids=1x128:int64. Repeatable.",
    ),
]
Patience = Annotated[
    float | None,
    typer.Option(
        "--patience",
        metavar="SECONDS",
        min=1,
        help="How long --model FILE.py:NAME may take. Default: 120. --cap says how much memory.",
    ),
]


@app.command(cls=PlainCommand, epilog=EPILOG)
def smoke(
    path: MaybePath = None,
    device: DeviceOption = Device.FAKE,
    steps: Steps = 3,
    gpu: GpuName = None,
    cap: Cap = None,
    scaled: Scaled = False,
    snapshot: Snapshot = None,
    record: Record = None,
    no_record: NoRecord = False,
    gpus: Gpus = None,
    shapes: Shapes = None,
    patience: Patience = None,
    overrides: Overrides = None,
    model: Model = None,
    beside: Beside = None,
    dialect: DialectName = None,
    online: Online = False,
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Run the real libraries and compare what they allocate with the prediction, phase by phase.

    PATH may be a plan of memplan fit --out as well: the planned run is made then.
    """
    from memplan.cli import own_model, ranks
    from memplan.cli.job import job

    if path is None and model is not None and own_model.asked(model):
        if any((gpu, scaled, snapshot, record, gpus, overrides, beside, dialect, online)):
            raise typer.BadParameter(
                "with --model FILE.py:NAME go --shape, --device, --cap and --patience only"
            )
        own_model.run(model, shapes or (), device=device, cap=cap, patience=patience, form=form)
        return
    if path is None:
        raise typer.BadParameter("name a config, or a model of your own: --model FILE.py:NAME")
    if shapes or patience is not None:
        raise typer.BadParameter("--shape and --patience are for --model FILE.py:NAME without PATH")
    if device is Device.FAKE and (cap is not None or scaled or record is not None):
        raise typer.BadParameter("--cap, --scaled and --record are for real runs: --device cpu")
    if cap is not None and scaled:
        raise typer.BadParameter("--cap holds for whole models: leave out --scaled")
    if snapshot is not None and device not in (Device.CUDA, Device.AUTO):
        raise typer.BadParameter("--snapshot is for --device cuda")
    wanted = job(
        path,
        gpu,
        overrides=overridden(overrides, gpus),
        model=model,
        beside=beside or (),
        dialect=dialect,
        online=online,
    )
    if device is not Device.FAKE and ranks.several(wanted):
        if cap is not None or scaled or record is not None:
            raise typer.BadParameter("--cap and --scaled are for one process only, as is --record")
        raise typer.Exit(ranks.run(wanted, device, steps, form))
    kept = None if device is Device.FAKE else _kept(record, no_record=no_record)
    found = _found(wanted, device, steps, cap, snapshot, scaled=scaled, record=kept)
    _print(wanted, found, form)
    raise typer.Exit(0 if found.passed else 1)


def _found(
    job: Job,
    device: Device,
    steps: int,
    cap: str | None,
    snapshot: Path | None,
    *,
    scaled: bool,
    record: Path | None,
) -> Comparison:
    from memplan import smoke
    from memplan.cli.progress import progress
    from memplan.smoke.device import Asked

    if device is Device.FAKE:
        return smoke.fake(job.workload, job.target)
    kind = smoke.present() if device is Device.AUTO else str(device)
    on_gpu = kind == Device.CUDA
    if on_gpu and scaled:
        raise typer.BadParameter("--scaled is for --device cpu")
    if snapshot is not None and not on_gpu:
        raise typer.BadParameter("--snapshot is for --device cuda, and there is no GPU here")
    asked = Asked(steps=steps, budget=_budget(cap, None if scaled or on_gpu else job.target))
    with progress(f"running on the {kind}", _rounds(kind, steps, scaled=scaled)) as advance:
        asked = replace(asked, advance=advance)
        if on_gpu:
            return smoke.on_cuda(job.workload, job.target, asked, snapshot, record=record)
        return smoke.on_cpu(job.workload, asked, scaled=scaled, record=record)


def _kept(record: Path | None, *, no_record: bool) -> Path | None:
    """Where a measured run is appended to, if anywhere."""
    from memplan.probe.record import usual_path

    if no_record:
        if record is not None:
            raise typer.BadParameter("--record and --no-record exclude each other")
        return None
    if record is None:
        return usual_path()
    from memplan.smoke.record import ready

    ready(record)
    return record


_WATCHED = 2
"""Steps that a CPU is given beside those asked for, and a GPU at least."""


def _rounds(kind: str, steps: int, *, scaled: bool) -> int:
    """Steps in all, of both depths of a model that is scaled down."""
    if kind == Device.CUDA:
        return max(steps, _WATCHED)
    return (steps + _WATCHED) * (2 if scaled else 1)


def _budget(cap: str | None, target: Target | None) -> Bytes | None:
    """What may be allocated: as asked, else what a GPU leaves beside its context."""
    from memplan.cli.target import amount
    from memplan.domain.bytes import Bytes

    if cap is not None:
        return amount(cap, "--cap")
    return None if target is None else Bytes(target.limit - target.context)


def _print(job: Job, found: Comparison, form: Format) -> None:
    from memplan.reporters.views.smoke import payload, report

    if form is Format.JSON:
        from memplan.reporters import json

        emit(json.render(payload(job.reading, found)))
    else:
        emit_report(report(job.reading, found), form)
