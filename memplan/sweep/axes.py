"""Names of what can be varied: native paths, declared values, keys of the model's config, and short names."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.dialects.overrides import override
from memplan.dialects.schema import leaves
from memplan.domain.architecture import Architecture, DeclaredModel
from memplan.domain.errors import FieldError, UnknownNameError
from memplan.domain.workload import Task, Workload
from memplan.sweep.dimensions import MODEL, dimension, dimensions
from memplan.sweep.grid import Axis, count
from memplan.sweep.ranges import settings, split

OPTION = "--over"
MOST_POINTS = 2_000
"""A sweep of more takes minutes, and nobody reads it."""

ALIASES = {
    "micro_batch": "batch.micro",
    "accumulation": "batch.accumulation",
    "rank": "adapter.rank",
    "gpus": "world.data_parallel",
    "sharding": "world.sharding",
    "optimizer": "optimizer.name",
    "prompt": "generate.prompt",
    "new_tokens": "generate.new_tokens",
    "workers": "host.workers",
    "eval_batch": "evaluation.batch",
}
"""Short names of native paths. ``sequence`` is the prompt's length where text is generated."""


def parse(workload: Workload, texts: Sequence[str]) -> tuple[Axis, ...]:
    """The axes that the ``--over`` options of a command line mean.

    Raises:
        FieldError: one is not ``NAME=VALUES``, a value has the wrong type or range, a value is
            varied twice, or there are too many combinations.
        UnknownNameError: nothing that can be varied has that name.
    """
    axes = tuple(_axis(workload, *split(text)) for text in texts)
    fields = [axis.field for axis in axes]
    for axis in axes:
        if fields.count(axis.field) > 1:
            raise FieldError(
                f"{OPTION} {axis.name}: {axis.field} is varied twice", expected="each value once"
            )
    total = count(axes)
    if total > MOST_POINTS:
        raise FieldError(
            f"{OPTION}: {total:,} combinations are too many", expected=f"at most {MOST_POINTS:,}"
        )
    return axes


def _axis(workload: Workload, name: str, values: str) -> Axis:
    field = _field(workload, name)
    axis = Axis(name=name, field=field, settings=settings(name, values))
    if not field.startswith(MODEL):
        for item in axis.settings:
            override(workload, f"{field}={item.text}", OPTION)
    elif any(item.number is None for item in axis.settings):
        raise FieldError(f"{OPTION} {name}: takes whole numbers", expected=f"such as {name}=8..32:8")
    return axis


def _field(workload: Workload, name: str) -> str:
    """The native path of a name.

    Raises:
        UnknownNameError: there is none.
    """
    declared = dict(workload.model.values) if isinstance(workload.model, DeclaredModel) else {}
    known = leaves()
    if name in declared or name in known:
        return name
    if name == "sequence":
        return "generate.prompt" if workload.task is Task.GENERATE else "sequence.length"
    if name in ALIASES:
        return ALIASES[name]
    if isinstance(workload.model, Architecture):
        key = dimension(workload.model, name.removeprefix(MODEL))
        if key is not None:
            return f"{MODEL}{key}"
        sides = [f"{MODEL}{key}" for key in dimensions(workload.model)]
    else:
        sides = []
    spellings = [*ALIASES, "sequence", "layers", *declared, *sides, *known]
    raise UnknownNameError.nearest(
        "value to vary", name, spellings, hint=f"such as {OPTION} micro_batch=1..64"
    )
