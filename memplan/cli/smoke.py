"""``memplan smoke``."""

from __future__ import annotations

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
from memplan.cli.runs import Device

if TYPE_CHECKING:
    from memplan.cli.job import Job
    from memplan.domain.measurement import Comparison

app = application()


EPILOG = """\b
Examples:
  memplan smoke train.yml --gpu rtx3090
  memplan smoke train.yml --device cpu --steps 5
  memplan smoke train.yml --device cpu --cap 2GiB
  memplan smoke train.yml --device cpu --save
  memplan smoke plan.yaml --device cpu --scaled
  memplan smoke fsdp.yml --device cpu --gpus 4
  memplan smoke --model nets/model.py:build --shape input_ids=1x128:int64
  memplan smoke plan.yaml --device cuda --gpu gtx1650 --snapshot out.pickle
\b
Exit codes: 0 the run went as predicted: allocated memory within 0.1 % or 1 MiB of what was seen, on a CPU
0.5 % or 64 KiB, and resident memory within 6 %, on a GPU 0.3 %, and reserved memory within 2 %, files within
0.5 % or 64 KiB; 1 it did not, or was out of memory; 2 bad input.
"""


DeviceOption = Annotated[
    Device,
    typer.Option(
        "--device",
        help="What to run on: tensors without bytes as on a GPU (fake), this machine's processor (cpu) or GPU"
        " (cuda). With auto the GPU if there is one; else fake, but the processor for what a memplan.yaml"
        " declares and for several GPUs.",
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

Save = Annotated[
    bool,
    typer.Option(
        "--save",
        help="Save a checkpoint after the run, compare its files with the prediction, and delete them.",
    ),
]
Record = Annotated[
    Path | None,
    typer.Option(
        "--record",
        metavar="FILE",
        help="Append what a CPU or a GPU measured here. Default: $MEMPLAN_CALIBRATION, else"
        " memplan/calibration.yaml in $XDG_DATA_HOME or ~/.local/share; --gpu auto and --ram auto read it.",
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
    device: DeviceOption = Device.AUTO,
    steps: Steps = 3,
    gpu: GpuName = None,
    cap: Cap = None,
    scaled: Scaled = False,
    snapshot: Snapshot = None,
    save: Save = False,
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
    from memplan.cli import own_model, ranks, runs
    from memplan.cli.job import job

    if path is None and model is not None and own_model.asked(model):
        if any((gpu, scaled, snapshot, save, record, gpus, overrides, beside, dialect, online)):
            raise typer.BadParameter(
                "with --model FILE.py:NAME go --shape, --device, --cap and --patience only"
            )
        here = Device.FAKE if device is Device.AUTO else device
        own_model.run(model, shapes or (), device=here, cap=cap, patience=patience, form=form)
        return
    if path is None:
        raise typer.BadParameter("name a config, or a model of your own: --model FILE.py:NAME")
    if shapes or patience is not None:
        raise typer.BadParameter("--shape and --patience are for --model FILE.py:NAME without PATH")
    if cap is not None and scaled:
        raise typer.BadParameter("--cap holds for whole models: leave out --scaled")
    if record is not None and no_record:
        raise typer.BadParameter("--record and --no-record exclude each other")
    wanted = job(
        path,
        gpu,
        overrides=overridden(overrides, gpus),
        model=model,
        beside=beside or (),
        dialect=dialect,
        online=online,
    )
    kind = runs.kind_of(wanted, device)
    runs.check(kind, wanted, cap=cap, scaled=scaled, snapshot=snapshot, record=record, save=save)
    if kind is not Device.FAKE and ranks.several(wanted):
        raise typer.Exit(ranks.run(wanted, kind, steps, form))
    kept = None if kind is Device.FAKE or no_record else runs.kept(record)
    found = runs.found(wanted, kind, steps, cap, snapshot, scaled=scaled, record=kept, save=save)
    _print(wanted, found, form)
    raise typer.Exit(0 if found.passed else 1)


def _print(job: Job, found: Comparison, form: Format) -> None:
    from memplan.reporters.views.smoke import payload, report

    if form is Format.JSON:
        from memplan.reporters import json

        emit(json.render(payload(job.reading, found)))
    else:
        emit_report(report(job.reading, found), form)
