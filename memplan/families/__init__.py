"""Model families: how a ``config.json`` becomes an architecture, and how the model runs in the simulator.

A family is one module, listed in ``FAMILIES``. It names the ``model_type`` values it covers and their class
defaults (what transformers assumes for an absent key), and offers ``architecture`` and ``build``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType

from memplan.domain.architecture import Architecture
from memplan.domain.errors import Location, UnknownNameError
from memplan.domain.workload import Attention, Workload
from memplan.families import llama
from memplan.simulator.step import Model
from memplan.simulator.tensor import Tape

FAMILIES: tuple[ModuleType, ...] = (llama,)

Where = Callable[[str], Location | None]


def known() -> tuple[str, ...]:
    """Every ``model_type`` some family covers."""
    return tuple(sorted(name for family in FAMILIES for name in family.DEFAULTS))


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read the keys of a Hugging Face ``config.json``.

    ``where`` gives the place of a key, for messages.

    Raises:
        UnknownNameError: no family covers its ``model_type``.
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    name = config.get("model_type")
    family = _family(str(name))
    if family is None:
        raise UnknownNameError.nearest(
            "model_type",
            str(name),
            known(),
            location=where("model_type"),
            hint=f"covered: {', '.join(known())}",
        )
    return family.architecture(config, where)  # type: ignore[no-any-return]


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Model:
    """The model in the simulator, its parameters allocated; ``kind`` is the attention kernel that runs."""
    family = _family(shape.model_type)
    assert family is not None, shape.model_type
    return family.build(tape, shape, workload, kind)  # type: ignore[no-any-return]


def linear_names(model_type: str) -> tuple[str, ...]:
    """Names of the linear layers of a block: what ``all-linear`` adapters target."""
    family = _family(model_type)
    return family.PROJECTIONS if family else ()


def _family(model_type: str) -> ModuleType | None:
    return next((family for family in FAMILIES if model_type in family.DEFAULTS), None)
