"""Model families: how a ``config.json`` becomes an architecture, and how the model runs in the simulator.

A family is one module, listed in ``FAMILIES`` with the ``model_type`` values it covers. It gives their class
defaults (``DEFAULTS``: what transformers assumes for an absent key) and the linear layers of a block
(``PROJECTIONS``), and offers ``architecture`` and ``build``. A family is imported when a model asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from types import ModuleType

from memplan.domain.architecture import Architecture, ParameterGroup
from memplan.domain.errors import FieldError
from memplan.domain.workload import Attention, Workload
from memplan.families.config import Where
from memplan.families.decoder import Decoder
from memplan.families.expert_names import NAMES
from memplan.simulator.tensor import Tape

FAMILIES: dict[str, tuple[str, ...]] = {
    "llama": ("llama", "mistral", "qwen2"),
    "qwen3": ("qwen3",),
    "smollm3": ("smollm3",),
    "olmo2": ("olmo2",),
    "granite": ("granite",),
    "gemma": ("gemma",),
    "gemma2": ("gemma2",),
    "gemma3": ("gemma3_text",),
    "gemma3_vision": ("gemma3",),
    "phi": ("phi",),
    "phi3": ("phi3",),
    "gpt2": ("gpt2",),
    "gpt_bigcode": ("gpt_bigcode",),
    "mixtral": ("mixtral",),
    "qwen3_moe": ("qwen3_moe",),
    "qwen2_moe": ("qwen2_moe",),
    "deepseek_v3": ("deepseek_v3",),
    "gpt_oss": ("gpt_oss",),
    "gpt_neox": ("gpt_neox",),
    "opt": ("opt",),
    "falcon": ("falcon",),
    "bert": ("bert",),
    "vit": ("vit",),
    "t5": ("t5",),
}
"""The ``model_type`` values of each module of this package that is a family."""

CODES = ("litgpt", "torchtune")
"""Libraries with model classes of their own: each a package here that says what it ``covers``."""

MOST_LAYERS = 10_000
"""More are a slip of the keyboard: published models have some two hundred at most."""


def known() -> tuple[str, ...]:
    """Every ``model_type`` some family covers."""
    return tuple(sorted(name for names in FAMILIES.values() for name in names))


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read the keys of a Hugging Face ``config.json``.

    ``where`` gives the place of a key, for messages.

    Raises:
        UnknownNameError: no family covers its ``model_type``, and its dimensions are not to be found.
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    family = _family(str(config.get("model_type")))
    shape: Architecture
    if family is None:
        from memplan.families import unknown

        shape = unknown.architecture(config, where, known())
    else:
        shape = family.architecture(config, where)
    if shape.num_hidden_layers > MOST_LAYERS:
        raise FieldError(
            f"{shape.num_hidden_layers:,} layers are not a model",
            location=where("num_hidden_layers"),
            expected=f"at most {MOST_LAYERS:,}",
        )
    groups = _groups(shape)
    return replace(
        shape,
        groups=groups,
        linears=_linears(shape, groups),
        expert_layers=tuple(NAMES.get(shape.model_type, ())),
        config=dict(config),
    )


def _linears(shape: Architecture, groups: Sequence[ParameterGroup]) -> tuple[str, ...]:
    """Those of the model type that this model has, which may have either of two ways to make queries.

    Where all MLPs are mixtures, what is a name of an expert's layer is none.
    """
    there = {group.name.removesuffix(".weight").rpartition(".")[2] for group in groups}
    names = tuple(name for name in linear_names(shape.model_type) if name in there)
    mixture = shape.mixture
    if mixture is None or mixture.dense or mixture.shared:
        return names
    return tuple(name for name in names if name not in NAMES.get(shape.model_type, ()))


def _groups(shape: Architecture) -> tuple[ParameterGroup, ...]:
    """The model's parameters, counted on the model itself: what is simulated is what is reported."""
    return build(Tape((8, 0)), shape, Workload(model=shape), Attention.EAGER).groups()


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Decoder:
    """The model in the simulator, its parameters allocated; ``kind`` is the attention kernel that runs."""
    own = _code(shape, workload)
    module = _module(shape.model_type) if own is None else own
    if workload.kernels.liger:
        from memplan.families.liger import patches

        tape.liger = patches(shape, workload)
    return module.build(tape, shape, workload, kind)  # type: ignore[no-any-return]


def written_by(shape: Architecture, workload: Workload) -> bool:
    """Whether the model is simulated as the library whose model code runs has written it."""
    return workload.framework.code == "transformers" or _code(shape, workload) is not None


def left_out(shape: Architecture, workload: Workload) -> tuple[tuple[str, int], ...]:
    """What is not simulated of the library whose model code runs, and how many bytes that adds at most."""
    own = _code(shape, workload)
    return () if own is None else tuple(own.left_out(shape, workload))


def linear_names(model_type: str) -> tuple[str, ...]:
    """Names of the linear layers of a block: what ``all-linear`` adapters target."""
    found: tuple[str, ...] = _module(model_type).PROJECTIONS
    return found


def _family(model_type: str) -> ModuleType | None:
    for module, names in FAMILIES.items():
        if model_type in names:
            return import_module(f"memplan.families.{module}")
    return None


def _code(shape: Architecture, workload: Workload) -> ModuleType | None:
    """The library whose model classes run instead of transformers', if it covers the model."""
    if workload.framework.code not in CODES:
        return None
    module = import_module(f"memplan.families.{workload.framework.code}")
    return module if module.covers(shape, workload) else None


def _module(model_type: str) -> ModuleType:
    return _family(model_type) or import_module("memplan.families.unknown")
