"""``memplan explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.application import application
from memplan.cli.coercion import PlainCommand
from memplan.cli.options import (
    Beside,
    ConfigPath,
    DialectName,
    Format,
    FormatOption,
    GpuCount,
    GpuName,
    ModelName,
    Online,
    Overrides,
    overridden,
)
from memplan.cli.output import emit, emit_report

if TYPE_CHECKING:
    from memplan.domain.estimate import Estimate

app = application()


EPILOG = """\b
Examples:
  memplan explain train.yml --gpu rtx3090
  memplan explain train.yml activations
"""

ComponentName = Annotated[
    str | None, typer.Argument(metavar="[COMPONENT]", help="Only this component, such as activations.")
]


@app.command(cls=PlainCommand, epilog=EPILOG)
def explain(
    path: ConfigPath,
    component: ComponentName = None,
    gpu: GpuName = None,
    gpus: GpuCount = None,
    overrides: Overrides = None,
    model: ModelName = None,
    beside: Beside = None,
    dialect: DialectName = None,
    online: Online = False,
    form: FormatOption = Format.TERMINAL,
) -> None:
    """Tell the peak: when it is, which tensors are alive and why, what would free them.

    With a component, the arithmetic of its size.
    """
    from memplan.cli import target
    from memplan.domain.architecture import Architecture
    from memplan.estimate import estimate as simulate
    from memplan.estimate.story import story
    from memplan.read import read

    reading = read(
        path,
        dialect=dialect,
        overrides=overridden(overrides, gpus),
        model=model,
        beside=beside or (),
        online=online,
    )
    on = target.of_reading(reading, gpu)
    found = simulate(reading.workload, on)
    name = None if component is None else _known(found, component)
    told = story(reading.workload, on) if isinstance(reading.workload.model, Architecture) else None
    if form is Format.JSON:
        from memplan.reporters import json

        emit(json.render(json.explanation(reading, found, name, told)))
        return
    from memplan.reporters.views.explain import report

    emit_report(report(reading, found, name, told), form)


def _known(found: Estimate, component: str) -> str:
    from memplan.domain.errors import UnknownNameError

    names = [part.name for part in (*found.device.components, *found.host.components)]
    if component not in names:
        raise UnknownNameError.nearest(
            "component alive at the peak", component, names, hint=f"alive are {', '.join(names)}"
        )
    return component
