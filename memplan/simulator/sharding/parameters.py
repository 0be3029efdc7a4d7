"""The parameters of a model of blocks in the order of its modules, as wrapping it finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from memplan.simulator.blocks import Store
from memplan.simulator.sharding.whole import Model
from memplan.simulator.tensor import Parameter


class Blocks(Model, Protocol):
    """A model of blocks in a row; ``checkpointed`` runs one under checkpointing."""

    store: Store
    blocks: list[Any]
    checkpointed: Callable[..., Any]


def parameters_of(model: Blocks) -> list[Parameter]:
    """The model's own parameters, then its adapters'."""
    found = list(model.store.parameters)
    known = {id(parameter) for parameter in found}
    for leaf in model.leaves:
        parameter = leaf.parameter() if leaf.parameter is not None else None
        if isinstance(parameter, Parameter) and id(parameter) not in known:
            found.append(parameter)
    return found


def by_module(parameters: list[Parameter]) -> Callable[[Parameter], int]:
    """Where the module is that a parameter belongs to; adapters are modules within those they adapt."""
    places: dict[str, int] = {}
    for place, parameter in enumerate(parameters):
        places.setdefault(parameter.name.rpartition(".")[0], place)

    def key(parameter: Parameter) -> int:
        module = parameter.name.rpartition(".")[0]
        return places.get(module.rpartition(".lora_")[0], places[module])

    return key
