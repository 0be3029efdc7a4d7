"""``memplan gpus`` and ``memplan gpus show``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from memplan.cli.application import application
from memplan.cli.output import emit

EPILOG = """\b
Examples:
  memplan gpus                    every GPU that --gpu knows
  memplan gpus show gtx1650       all facts about one, with their sources
"""

app = application(invoke_without_command=True, epilog=EPILOG)


class Format(StrEnum):
    """Forms a list of GPUs can take."""

    TERMINAL = "terminal"
    JSON = "json"
    MARKDOWN = "markdown"


FormatOption = Annotated[Format, typer.Option("--format", help="How to print the answer.")]


@app.callback()
def gpus(context: typer.Context, form: FormatOption = Format.TERMINAL) -> None:
    """List the GPUs that --gpu knows, or show one."""
    if context.invoked_subcommand is not None:
        return
    from memplan import profiles
    from memplan.reporters import json, markdown, terminal
    from memplan.reporters.views import gpus as views

    known = profiles.gpus()
    if form is Format.JSON:
        emit(json.render(json.gpus(known)))
    else:
        emit((markdown if form is Format.MARKDOWN else terminal).render(views.listing(known)))


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Any usual spelling: gtx1650, 'RTX 3090', a100-80gb.")
    ],
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Show all facts about one GPU, with their sources."""
    from memplan import profiles
    from memplan.reporters import json, markdown, terminal
    from memplan.reporters.views import gpus as views

    gpu = profiles.gpu(name)
    if form is Format.JSON:
        emit(json.render(json.gpus((gpu,))))
    else:
        report = views.details(gpu, profiles.named(gpu.name))
        emit((markdown if form is Format.MARKDOWN else terminal).render(report))
