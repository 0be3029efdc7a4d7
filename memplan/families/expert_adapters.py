"""Which experts an adapter reaches: by the names of layers they were once, or by those of their parameters.

Dense MLPs with layers of the same names are not adapted then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from memplan.domain.architecture import EXPERT_PARAMETERS
from memplan.domain.errors import FieldError
from memplan.domain.workload import Adapter
from memplan.families import decoder
from memplan.families.decoder import Decoder
from memplan.families.expert_names import NAMES
from memplan.simulator.blocks import Store
from memplan.simulator.experts import Experts


def reached(adapter: Adapter, model_type: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """The linear layers that are adapted, and the ranks of adapters of parameters.

    The parameter that two layers were fused into gets twice the rank.

    Raises:
        FieldError: one of two fused layers is named without the other, or a parameter does not exist.
    """
    names = NAMES.get(model_type, {})
    ranks = dict.fromkeys((_parameter(name) for name in adapter.parameters), adapter.rank)
    layers = []
    for target in adapter.targets:
        name = names.get(target.rpartition(".")[2])
        if name is None:
            layers.append(target)
            continue
        ranks[name] = _fused(adapter, names, name) * adapter.rank
    return tuple(layers), ranks


def _parameter(path: str) -> str:
    name = path.rpartition(".")[2]
    if name not in EXPERT_PARAMETERS:
        raise FieldError(f"no experts have a parameter {path}", expected=" or ".join(EXPERT_PARAMETERS))
    return name


def _fused(adapter: Adapter, names: Mapping[str, str], name: str) -> int:
    """How many layers a parameter took the place of, all of which have to be named."""
    named = {target.rpartition(".")[2] for target in adapter.targets}
    together = [old for old, new in names.items() if new == name]
    if not named.issuperset(together):
        given = ", ".join(old for old in together if old in named)
        raise FieldError(
            f"adapter targets name {given} without the layer that it is fused with in experts",
            expected=f"both of {' and '.join(together)}, or none",
        )
    return len(together)


class Block(decoder.Block, Protocol):
    """A block that may have experts."""

    @property
    def stacked(self) -> Experts | None:
        """The experts, unless this block has an ordinary MLP."""


class AdaptsExperts(Decoder):
    """A decoder whose blocks are of the kind above."""

    def adapt(self, block: decoder.Block, adapter: Adapter, store: Store) -> None:
        """Adapters of the linear layers first, then of the experts."""
        layers, ranks = reached(adapter, self.shape.model_type)
        super().adapt(block, replace(adapter, targets=layers), store)
        experts = getattr(block, "stacked", None)
        if experts is not None:
            experts.adapt(ranks, store)
