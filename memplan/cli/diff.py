"""``memplan diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.application import application
from memplan.cli.coercion import PlainCommand
from memplan.cli.options import (
    Beside,
    DialectName,
    Format,
    FormatOption,
    FreeRam,
    GpuCount,
    GpuName,
    ModelName,
    Online,
    Overrides,
    Ram,
    overridden,
)
from memplan.cli.output import emit, emit_report

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading

app = application()


EPILOG = """\b
Examples:
  memplan diff old.yml new.yml --gpu rtx3090
  memplan diff train.yml@HEAD                       what is not committed yet
  memplan diff train.yml@main train.yml@HEAD --gpu h100-sxm --format markdown
\b
PATH@REVISION is the config as git keeps it, with the files of that commit around it; nothing is checked out.
\b
Exit codes: 0; 1 with --fail-if-grows, when it needs more GPU memory than before; 2 bad input.
"""

First = Annotated[str, typer.Argument(metavar="A", help="A config, or PATH@REVISION: before.")]
Second = Annotated[
    str | None,
    typer.Argument(metavar="[B]", help="The same: after. Default: the file of A as it is now."),
]


@app.command(cls=PlainCommand, epilog=EPILOG)
def diff(
    before: First,
    after: Second = None,
    gpu: GpuName = None,
    gpus: GpuCount = None,
    ram: Ram = None,
    free_ram: FreeRam = None,
    overrides: Overrides = None,
    model: ModelName = None,
    beside: Beside = None,
    dialect: DialectName = None,
    online: Online = False,
    fail_if_grows: Annotated[
        bool, typer.Option("--fail-if-grows", help="Exit with 1 when B needs more GPU memory than A.")
    ] = False,
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Say what a change of a config does to memory, setting by setting and component by component."""
    from memplan.cli import target
    from memplan.diff import compare, side
    from memplan.read import read

    def reader(path: str) -> Reading:
        return read(
            path,
            dialect=dialect,
            overrides=overridden(overrides, gpus),
            model=model,
            beside=beside or (),
            online=online,
        )

    old = side(before, reader)
    new = side(after or _now(before), reader)
    memory = target.free_of(ram, free_ram)
    targets = target.of_reading(old.reading, gpu, memory), target.of_reading(new.reading, gpu, memory)
    found = compare(old, new, targets)
    if form is Format.JSON:
        from memplan.reporters import json
        from memplan.reporters.views.diff_data import payload

        emit(json.render(payload(found)))
    else:
        from memplan.reporters.views.diff import report

        emit_report(report(found), form)
    raise typer.Exit(1 if fail_if_grows and found.grows else 0)


def _now(before: str) -> str:
    """The file of ``PATH@REVISION`` as it is now.

    Raises:
        BadParameter: no revision is named, so there is nothing to compare with.
    """
    from memplan.diff.revision import split

    path, revision = split(before)
    if revision is None:
        raise typer.BadParameter("give two configs, or one as PATH@REVISION")
    return path
