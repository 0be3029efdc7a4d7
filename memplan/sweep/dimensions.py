"""Other sizes of the same kind of model: ``model.num_hidden_layers``, ``model.hidden_size``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from memplan.domain.architecture import Architecture
from memplan.domain.errors import FieldError
from memplan.domain.workload import Workload

MODEL = "model."
TEXT = "text_config"
"""Where a model with eyes keeps what its language part is like."""

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_SHORT: Mapping[str, tuple[str, ...]] = {
    "layers": _LAYERS,
    "depth": _LAYERS,
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "width": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "vocabulary": ("vocab_size",),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
}
"""Short names, and the keys that configs have for them."""


def dimensions(shape: Architecture) -> tuple[str, ...]:
    """Keys of the model's config that hold a whole number, each a size that may be varied."""
    return tuple(
        key
        for key, value in _said(shape.config).items()
        if isinstance(value, int) and not isinstance(value, bool) and not key.endswith("_token_id")
    )


def dimension(shape: Architecture, name: str) -> str | None:
    """The key of a model's config that a name means: itself, or the one a short name stands for."""
    there = dimensions(shape)
    return next((key for key in (name, *_SHORT.get(name, ())) if key in there), None)


def resized(workload: Workload, key: str, size: int) -> Workload:
    """The workload with another size of its model. Lists with an entry per layer follow their pattern.

    Raises:
        FieldError: the size contradicts another one, such as heads that no longer share a width.
    """
    from memplan.families import architecture

    shape = workload.model
    if not isinstance(shape, Architecture):
        raise FieldError(f"{MODEL}{key}: the model is declared and has no config")
    config = dict(shape.config)
    if key in config:
        config.update(_changes(config, key, size))
    else:
        inner: Any = config[TEXT]
        config[TEXT] = {**inner, **_changes(inner, key, size)}
    model = architecture(config, lambda _key: None)
    return replace(workload, model=model)


def _said(config: Mapping[str, object]) -> dict[str, object]:
    text = config.get(TEXT)
    return {**(text if isinstance(text, Mapping) else {}), **config}


def _changes(config: Mapping[str, object], key: str, size: int) -> dict[str, object]:
    """What follows from another size: itself, and lists of another length where layers are counted."""
    found: dict[str, object] = {key: size}
    if key in _LAYERS:
        for name, value in config.items():
            if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == config[key]:
                found[name] = _stretched(value, size)
    return found


def _stretched(pattern: Sequence[object], length: int) -> list[object]:
    """The list cut, or continued by the shortest pattern that it repeats."""
    period = next(
        step
        for step in range(1, len(pattern) + 1)
        if all(item == pattern[place % step] for place, item in enumerate(pattern))
    )
    return [pattern[place % period] for place in range(length)]
