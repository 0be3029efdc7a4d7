"""``memplan profiles``."""

from __future__ import annotations

from typing import Annotated

import typer

from memplan.cli.application import application
from memplan.cli.coercion import PlainCommand
from memplan.cli.options import Format, FormatOption
from memplan.cli.output import emit, emit_report

app = application()


EPILOG = """\b
Examples:
  memplan profiles                named profiles of GPUs, and the hub models known offline
  memplan profiles --check        validate the data, your own under MEMPLAN_PROFILES included
"""


@app.command(cls=PlainCommand, epilog=EPILOG)
def profiles(
    check: Annotated[
        bool, typer.Option("--check", help="Validate every profile file and its index.")
    ] = False,
    form: FormatOption = Format.TERMINAL,
) -> None:
    """List named profiles and the models known offline."""
    from memplan import profiles as data

    if check:
        _check()
        return
    from memplan.reporters import json
    from memplan.reporters.views.profiles import report

    named = tuple(item for gpu in data.gpus() for item in data.named(gpu.name))
    if form is Format.JSON:
        emit(json.render(json.profiles(data.model_ids(), named)))
    else:
        emit_report(report(data.model_ids(), named), form)


def _check() -> None:
    from memplan.profiles.index import stale_files
    from memplan.profiles.store import records, shipped_folder

    stale = stale_files(shipped_folder())
    if stale:
        emit("\n".join(f"{path}: does not agree with the YAML files" for path in stale))
        raise typer.Exit(1)
    known = records()
    counts = (
        f"{len(known.gpus)} GPUs, {len(known.model_ids)} models, {len(known.named)} GPUs with named profiles"
    )
    emit(f"{counts}: all valid")
