"""``memplan sweep``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.application import application
from memplan.cli.coercion import PlainCommand
from memplan.cli.options import (
    Beside,
    ConfigPath,
    DialectName,
    FreeRam,
    GpuCount,
    ModelName,
    Online,
    Overrides,
    overridden,
)
from memplan.cli.output import emit, emit_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memplan.dialects.reading import Reading
    from memplan.domain.target import Target
    from memplan.reporters.blocks import Picture
    from memplan.sweep.grid import Sweep
    from memplan.sweep.runs import Measure

app = application()


class Format(StrEnum):
    """Forms a sweep can take."""

    TERMINAL = "terminal"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"


EPILOG = """\b
Examples:
  memplan sweep train.yml --over micro_batch=1..64 --gpu rtx3090
  memplan sweep train.yml --over micro_batch=1..64 --over sequence=512..32768 --gpu rtx3090 --gpu h100-sxm
  memplan sweep train.yml --over checkpointing=none,full --over micro_batch=1..32 --hold batch.global
  memplan sweep ./model-dir --over layers=8..32:8 --over sequence=2048..65536 --out sweep.svg
  memplan sweep ./project --over depth=100..800 --measure --component activations
\b
Ranges: 1..64 doubles from 1, with 64; 1..64:8 goes in steps of 8; lists have commas.
\b
Exit codes: 0; 2 bad input. A combination that cannot be is shown as refused.
"""

Over = Annotated[
    list[str],
    typer.Option(
        "--over",
        metavar="NAME=VALUES",
        help="What to vary: micro_batch, sequence, rank, gpus, layers, any key that --set takes,"
        " model.KEY of the model's config, or a declared value. Repeatable.",
    ),
]
Gpus = Annotated[
    list[str] | None,
    typer.Option(
        "--gpu",
        metavar="NAME|auto|SIZE",
        help="A GPU to judge by (memplan gpus lists them), this machine's (auto), or 24GiB. Repeatable."
        " Default: the target the config names.",
    ),
]
Hold = Annotated[
    list[str] | None,
    typer.Option(
        "--hold",
        metavar="batch.global",
        help="Keep the global batch: accumulation follows the micro-batch. Default: accumulation stays.",
    ),
]
Rams = Annotated[
    list[str] | None,
    typer.Option(
        "--ram",
        metavar="SIZE|auto",
        help="Host memory of the target, such as 32GiB; this machine's with auto. Repeatable for what runs in"
        " host memory.",
    ),
]
Exact = Annotated[
    bool, typer.Option("--exact", help="Find the largest value that fits between the settings too.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Also write a picture or a table: .svg, .png, .html or .csv."),
]
Measured = Annotated[
    bool,
    typer.Option(
        "--measure",
        help="Also run every combination as memplan smoke does (models on tensors without bytes, mechanisms"
        " and declared tensors on the CPU), and show what was seen beside what was predicted.",
    ),
]
Components = Annotated[
    list[str] | None,
    typer.Option(
        "--component",
        metavar="NAME",
        help="With --measure: look at this component of the peak, not all of it. Repeatable: their sum.",
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the answer.")]


@app.command(cls=PlainCommand, epilog=EPILOG)
def sweep(
    path: ConfigPath,
    over: Over,
    gpu: Gpus = None,
    hold: Hold = None,
    gpus: GpuCount = None,
    ram: Rams = None,
    exact: Exact = False,
    free_ram: FreeRam = None,
    overrides: Overrides = None,
    model: ModelName = None,
    beside: Beside = None,
    dialect: DialectName = None,
    online: Online = False,
    measure: Measured = False,
    component: Components = None,
    out: Out = None,
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Vary one value or two, and show where memory goes and where it stops fitting."""
    from memplan.cli.progress import progress
    from memplan.read import read
    from memplan.sweep import sweep as vary
    from memplan.sweep.axes import parse
    from memplan.sweep.grid import count

    if component and not measure:
        raise typer.BadParameter("--component is for --measure")
    reading = read(
        path,
        dialect=dialect,
        overrides=overridden(overrides, gpus),
        model=model,
        beside=beside or (),
        online=online,
    )
    axes = parse(reading.workload, over)
    targets = _targets(reading, gpu or (), ram or (), free_ram)
    if out is not None:
        from memplan.reporters.pictures import check

        check(out, axes)
    with progress("combinations", count(axes)) as advance:
        found = vary(
            reading,
            axes,
            targets,
            hold=hold or (),
            exact=exact,
            advance=advance,
            measure=_measure(targets) if measure else None,
            shown=component or (),
        )
    if out is not None:
        _save(reading, found, out)
    _print(reading, found, form)


def _targets(
    reading: Reading, names: Sequence[str], rams: Sequence[str], free: str | None
) -> tuple[Target, ...]:
    """The GPUs asked for, each once, else the config's own if it names one; or machines by their RAM."""
    from memplan.cli import target

    if len(rams) > 1:
        return _machines(reading, rams, free)
    ram = target.free_of(rams[0] if rams else None, free)
    found = [target.of_reading(reading, name, ram) for name in names or (None,)]
    return tuple({item.name: item for item in found if item is not None}.values())


def _machines(reading: Reading, rams: Sequence[str], free: str | None) -> tuple[Target, ...]:
    """Machines without a GPU that differ in RAM, each once, named by it."""
    from dataclasses import replace

    from memplan.cli.target import amount
    from memplan.domain.errors import FieldError
    from memplan.domain.target import Target

    if free is not None or not reading.workload.on_host:
        other = "--free-ram" if free is not None else "a run on a GPU"
        raise FieldError(
            f"--ram is given {len(rams)} times, with {other}", expected="one --ram, or a run in host memory"
        )
    sizes = [amount(text, "--ram") for text in rams]
    return tuple({size: replace(Target.of_host(size), name=f"{size}") for size in sizes}.values())


def _measure(targets: Sequence[Target]) -> Measure:
    from memplan.cli.measuring import measurer

    return measurer(targets)


def _save(reading: Reading, found: Sweep, out: Path) -> None:
    from memplan.reporters.pictures import write

    write(out, f"{reading.path}", found)


def _print(reading: Reading, found: Sweep, form: Format) -> None:
    from memplan.reporters.views import sweep as view
    from memplan.reporters.views import sweep_data as data

    if form is Format.JSON:
        from memplan.reporters import json

        emit(json.render(data.payload(reading, found)))
    elif form is Format.CSV:
        emit(data.table(found))
    else:
        emit_report(view.report(reading, found, _sketch(found)), form)


def _sketch(found: Sweep) -> Picture | None:
    from shutil import get_terminal_size

    from memplan.reporters.sketches import chosen_signs, sketch

    return sketch(found, get_terminal_size().columns, chosen_signs())
