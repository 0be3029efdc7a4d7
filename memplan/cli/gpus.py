"""``memplan gpus`` and ``memplan gpus show``."""

from __future__ import annotations

from typing import Annotated

import typer

from memplan.cli.application import application
from memplan.cli.coercion import PlainCommand, PlainGroup
from memplan.cli.options import Format, FormatOption
from memplan.cli.output import emit, emit_report

EPILOG = """\b
Examples:
  memplan gpus                    every GPU that --gpu knows
  memplan gpus show gtx1650       all facts about one, with their sources
"""

app = application(cls=PlainGroup, invoke_without_command=True, epilog=EPILOG)


@app.callback()
def gpus(context: typer.Context, form: FormatOption = Format.TERMINAL) -> None:
    """List the GPUs that --gpu knows, or show one."""
    if context.invoked_subcommand is not None:
        return
    from memplan import profiles
    from memplan.reporters import json
    from memplan.reporters.views import gpus as views

    known = profiles.gpus()
    if form is Format.JSON:
        emit(json.render(json.gpus(known)))
    else:
        emit_report(views.listing(known), form)


@app.command(cls=PlainCommand)
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Any usual spelling: gtx1650, 'RTX 3090', a100-80gb.")
    ],
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Show all facts about one GPU, with their sources."""
    from memplan import profiles
    from memplan.reporters import json
    from memplan.reporters.views import gpus as views

    gpu = profiles.gpu(name)
    if form is Format.JSON:
        emit(json.render(json.gpus((gpu,))))
    else:
        report = views.details(gpu, profiles.named(gpu.name))
        emit_report(report, form)
