"""Options that several commands share, with one wording each."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from memplan.domain.harm import Harm


class Format(StrEnum):
    """Forms that every answer can take."""

    TERMINAL = "terminal"
    JSON = "json"
    MARKDOWN = "markdown"


FormatOption = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
ConfigPath = Annotated[
    str,
    typer.Argument(
        metavar="PATH",
        help="A training config, a model directory, a memplan.yaml, or a directory that holds one.",
    ),
]
GpuName = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        metavar="NAME|auto|SIZE",
        help="Where it has to fit: a GPU (memplan gpus lists them), this machine's (auto, auto:1), or 24GiB."
        " Default: the target the config names.",
    ),
]
Ram = Annotated[
    str | None,
    typer.Option(
        "--ram",
        metavar="SIZE|auto",
        help="Host memory of the target, such as 32GiB; this machine's with auto, or auto:8GiB for so much of"
        " it. A run without a GPU needs to be told no more.",
    ),
]
FreeRam = Annotated[
    str | None,
    typer.Option(
        "--free-ram",
        metavar="SIZE|auto",
        help="Host memory that is free for the run, of what --ram says there is; on this machine now with"
        " auto. Default: all of it, and of this machine (--gpu auto) what is free now.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Plan with another value than the file's, such as batch.micro=2. Repeatable.",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="ID|DIR",
        help="The model, for a file that names none: a DeepSpeed JSON, an accelerate config.",
    ),
]
Beside = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="FILE",
        help="Another file of the same job: an accelerate config, a DeepSpeed JSON, an adapter_config.json."
        " Repeatable. Default: what the config names, or lies with it in a folder that is given.",
    ),
]
GpuCount = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        metavar="N",
        min=1,
        help="Data-parallel GPUs; figures are those of one. Default: what the config says, else 1.",
    ),
]
Online = Annotated[
    bool,
    typer.Option(
        "--online",
        help="Ask the hub for a model that this machine does not know: its config and the headers of its"
        " weights, never the weights.",
    ),
]
DialectName = Annotated[
    str | None,
    typer.Option(
        "--dialect", metavar="NAME", help="Read the file as this framework's instead of recognising it."
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="A named profile of the GPU: ultra-conservative, balanced or aggressive.",
    ),
]
Margin = Annotated[
    str | None,
    typer.Option("--margin", metavar="SHARE|SIZE", help="Memory to keep free, such as 10% or 500MiB."),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        "--keep",
        metavar="FIELD",
        help="Leave this field as it is, such as batch.micro or sequence.length. Repeatable.",
    ),
]


class AllowedHarm(StrEnum):
    """How much a change may alter the experiment."""

    EXACT = "exact"
    NUMERIC = "numeric"
    BEHAVIOUR = "behaviour"


AllowHarm = Annotated[
    AllowedHarm,
    typer.Option(
        "--allow",
        help="The worst a change may do: nothing but time (exact), rounding (numeric),"
        " another experiment (behaviour).",
    ),
]


def overridden(overrides: list[str] | None, gpus: int | None) -> list[str]:
    """What replaces the config's values: ``--gpus`` is the world's size."""
    world = [] if gpus is None else [f"world.data_parallel={gpus}"]
    return [*(overrides or ()), *world]


def harm(allowed: AllowedHarm) -> Harm:
    """The option as the domain's noun."""
    from memplan.domain.harm import Harm

    return Harm[allowed.name]
