"""The list of commands, each loaded only when it is the one that runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from memplan import __version__
from memplan.cli.application import application
from memplan.cli.coercion import PlainGroup

COMMANDS = (
    "estimate",
    "fit",
    "apply",
    "check",
    "explain",
    "sweep",
    "diff",
    "smoke",
    "watch",
    "gpus",
    "models",
    "profiles",
)
"""One module of this package each, in the order of the help text."""

EPILOG = """\b
A first run:
  memplan estimate train.yml --gpu rtx3090     where every byte goes, and whether it fits
  memplan fit train.yml --gpu rtx3090          the smallest change that makes it fit
  memplan apply train.yml --gpu rtx3090        write that change into train.yml
\b
Exit codes: 0 fits, written or passed; 1 does not fit or failed; 2 bad input; 3 undecided.
"""


class LazyCommands(PlainGroup):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 -- click calls it so
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"memplan.cli.{cmd_name}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command


app = application(completion=True, cls=LazyCommands, no_args_is_help=True, epilog=EPILOG)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"memplan {__version__}")
        raise typer.Exit


@app.callback()
def memplan(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Will this training config fit this GPU, and if not, what is the smallest change that makes it fit?"""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; click prints usage errors and exits with 2."""
    try:
        typer.main.get_command(app).main(args=list(arguments), prog_name="memplan")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
