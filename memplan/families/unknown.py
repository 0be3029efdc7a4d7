"""A model type nobody told memplan about: counted as a Llama of its dimensions, and never with confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.errors import UnknownNameError
from memplan.domain.workload import Attention, Workload
from memplan.families import llama
from memplan.families.config import Where
from memplan.families.llama import PROJECTIONS, Llama
from memplan.simulator.tensor import Tape

__all__ = ["PROJECTIONS", "architecture", "build"]

_REQUIRED = {
    "hidden_size": ("n_embd", "d_model", "dim", "hidden_dim", "embed_dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "vocab_size": (),
}
_OPTIONAL = {
    "intermediate_size": ("n_inner", "ffn_dim", "d_ff", "ffn_hidden_size"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv"),
    "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len", "seq_length"),
    "head_dim": (),
    "tie_word_embeddings": (),
    "moe_intermediate_size": (),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
}
_BY_LAYER = ("layers_block_type", "hybrid_override_pattern", "layer_types")
"""Keys with one entry, or one letter, for each layer."""


def architecture(config: Mapping[str, object], where: Where, known: tuple[str, ...]) -> Architecture:
    """Dimensions under the names that configs give them; a mixture counts all of its experts.

    Raises:
        UnknownNameError: the config does not say how large the model is.
        FieldError: it says so with a value of the wrong type or range.
    """
    text = config.get("text_config")
    said = {**(text if isinstance(text, Mapping) else {}), **config}
    counted = next((len(value) for key in _BY_LAYER if isinstance(value := said.get(key), list | str)), None)
    if counted and not any(said.get(name) for name in ("num_hidden_layers", *_REQUIRED["num_hidden_layers"])):
        said["num_hidden_layers"] = counted
    names = {key: _name(said, key, others) for key, others in (_REQUIRED | _OPTIONAL).items()}
    for key in _REQUIRED:
        if names[key] is None:
            raise UnknownNameError.nearest(
                "model_type",
                str(config.get("model_type")),
                known,
                location=where("model_type"),
                hint=f"the file gives no {key} to go by; covered: {', '.join(known)}",
            )
    found = {key: said[name] for key, name in names.items() if name is not None}
    _head_dim(found)
    found["model_type"] = "llama"
    shape = llama.architecture(found, lambda key: where(names.get(key) or key))
    experts = found.get("experts")
    width = found.get("moe_intermediate_size", shape.intermediate_size)
    if isinstance(experts, int) and isinstance(width, int):
        shape = replace(shape, intermediate_size=max(1, experts * width))
    return replace(shape, model_type=str(config.get("model_type")))


def _head_dim(found: dict[str, object]) -> None:
    """A width where heads do not share the hidden size evenly, as with latent attention: any will do."""
    hidden, heads = found["hidden_size"], found["num_attention_heads"]
    if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 and "head_dim" not in found:
        found["head_dim"] = max(1, hidden // heads)


def _name(said: Mapping[str, object], key: str, others: tuple[str, ...]) -> str | None:
    """The name under which a config gives a dimension."""
    return next((name for name in (key, *others) if said.get(name) is not None), None)


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Llama:
    """The stand-in."""
    return Llama(tape, shape, workload, kind)
