"""``memplan check``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.application import application
from memplan.cli.coercion import PlainCommand
from memplan.cli.options import Beside, FreeRam, GpuCount, GpuName, Margin, ModelName, Online, Ram, overridden
from memplan.cli.output import emit, emit_report

if TYPE_CHECKING:
    from memplan.check import CheckReport
    from memplan.check.proof import Prover

app = application()


class Format(StrEnum):
    """Forms findings can take."""

    TERMINAL = "terminal"
    JSON = "json"
    MARKDOWN = "markdown"
    GITHUB = "github"
    SARIF = "sarif"
    JUNIT = "junit"


EPILOG = """\b
Examples:
  memplan check                                     the memplan.yaml of this folder
  memplan check configs/*.yml --gpu rtx3090
  memplan check --format github                     annotate the lines of a pull request
  memplan check --format json > known.json          then: memplan check --baseline known.json
  memplan check configs/*.yml --gpu t4 --smoke      hold the real classes against the prediction too
\b
Exit codes: 0 passed; 1 failed; 2 bad input; 3 passed as far as can be decided.
"""

Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH]...", help="Configs, manifests or folders that hold one. Default: this folder."
    ),
]
Smoke = Annotated[
    bool,
    typer.Option(
        "--smoke", help="Trace the real classes of every config too, as memplan smoke --device fake does."
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        "--baseline", metavar="FILE", help="A report in JSON; what it already holds does not fail the gate."
    ),
]


@app.command(cls=PlainCommand, epilog=EPILOG)
def check(
    paths: Paths = None,
    gpu: GpuName = None,
    gpus: GpuCount = None,
    ram: Ram = None,
    free_ram: FreeRam = None,
    margin: Margin = None,
    model: ModelName = None,
    beside: Beside = None,
    online: Online = False,
    baseline: Baseline = None,
    smoke: Smoke = False,
    form: Annotated[Format, typer.Option("--format", help="How to print the findings.")] = Format.TERMINAL,
) -> None:
    """Fail when a config does not fit its target: the gate for CI."""
    from memplan.check import check as gate
    from memplan.cli import target
    from memplan.fit import fit

    memory = target.free_of(ram, free_ram)
    report = gate(
        paths or ["."],
        target=None if gpu is None else target.chosen(gpu, None, memory),
        ram=None if memory is None else target.amount(memory, "--ram"),
        host=target.this_host(gpu, memory),
        margin=margin,
        baseline=baseline,
        planner=fit,
        overrides=overridden(None, gpus),
        online=online,
        model=model,
        beside=beside or (),
        prover=_prover() if smoke else None,
    )
    _print(report, form)
    raise typer.Exit(report.exit_code)


def _prover() -> Prover:
    """The tracer, if its libraries are here: without them the gate would say nothing, and pass."""
    from memplan.smoke import fake
    from memplan.smoke.libraries import needed

    needed("torch", "transformers")
    return fake


def _print(report: CheckReport, form: Format) -> None:
    from importlib import import_module

    from memplan.reporters import json
    from memplan.reporters.views.check import report as blocks

    if form is Format.JSON:
        emit(json.render(json.check(report.passed, report.findings)))
    elif form in (Format.TERMINAL, Format.MARKDOWN):
        emit_report(blocks(report.passed, report.findings, report.checked), form)
    else:
        emit(import_module(f"memplan.reporters.{form}").check(report.findings))
