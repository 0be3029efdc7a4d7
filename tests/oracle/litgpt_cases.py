"""Tiny litgpt models: their settings in litgpt's words and in those of a ``config.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EVENTS = Path(__file__).with_name("litgpt_events.json")
"""Recorded by ``record_litgpt``: the events of every case."""

MICRO, LENGTH, RANK = 2, 160, 6

_ALL = ("query", "key", "value", "projection", "mlp", "head")
_TWO = ("query", "value")

_LLAMA: dict[str, Any] = {
    "name": "tiny",
    "block_size": 512,
    "vocab_size": 1000,
    "padded_vocab_size": 1024,
    "n_layer": 2,
    "n_head": 4,
    "n_embd": 96,
    "n_query_groups": 2,
    "rotary_percentage": 1.0,
    "parallel_residual": False,
    "bias": False,
    "norm_class_name": "RMSNorm",
    "mlp_class_name": "LLaMAMLP",
    "intermediate_size": 200,
}
_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_GEMMA = {
    "n_query_groups": 1,
    "mlp_class_name": "GemmaMLP",
    "scale_embeddings": True,
    "gelu_approximate": "tanh",
}
_NEOX = {
    "n_query_groups": 4,
    "mlp_class_name": "GptNeoxMLP",
    "norm_class_name": "LayerNorm",
    "bias": True,
    "parallel_residual": True,
    "rotary_percentage": 0.25,
}
_FALCON = {
    "n_query_groups": 1,
    "mlp_class_name": "GptNeoxMLP",
    "norm_class_name": "LayerNorm",
    "parallel_residual": True,
    "shared_attention_norm": True,
    "intermediate_size": 384,
}
_FALCON_CONFIG = {"model_type": "falcon", "num_key_value_heads": None, "intermediate_size": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model and how it is trained; ``adapted`` names the parts with adapters, none for full training."""

    release: str
    adapted: tuple[str, ...] = ()
    precision: str = "bf16-true"
    dropout: float = 0.0
    own: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """litgpt's ``Config``."""
        return _LLAMA | self.own

    @property
    def config(self) -> dict[str, Any]:
        """The same model's ``config.json``."""
        return {key: value for key, value in (_CONFIG | self.theirs).items() if value is not None}


_GEMMA_CONFIG = {"model_type": "gemma", "num_key_value_heads": 1, "head_dim": 24}

_WINDOW = {"sliding_window_size": 64}
_MISTRAL = {"model_type": "mistral", "sliding_window": 64}

CASES = {
    "llama": Case(release="0.5.13"),
    "llama q and v": Case(release="0.5.13", adapted=_TWO),
    "llama everywhere": Case(release="0.5.13", adapted=_ALL, dropout=0.1),
    "gemma": Case(release="0.5.13", adapted=_ALL, own=_GEMMA, theirs=_GEMMA_CONFIG),
    "gpt_neox": Case(
        release="0.5.13", adapted=_TWO, precision="32-true", own=_NEOX, theirs={"model_type": "gpt_neox"}
    ),
    "falcon": Case(release="0.5.13", adapted=_TWO, precision="32-true", own=_FALCON, theirs=_FALCON_CONFIG),
    "mistral": Case(release="0.5.13", adapted=_TWO, precision="32-true", own=_WINDOW, theirs=_MISTRAL),
    "mistral, 0.5.3": Case(release="0.5.3", precision="32-true", own=_WINDOW, theirs=_MISTRAL),
    "llama, 0.4.12": Case(release="0.4.12", adapted=_ALL),
    "llama in full, 0.4.12": Case(release="0.4.12", precision="32-true"),
    "equal heads, 0.4.12": Case(
        release="0.4.12", adapted=_TWO, own={"n_query_groups": 4}, theirs={"num_key_value_heads": 4}
    ),
    "llama, 0.3.0": Case(release="0.3.0", adapted=_TWO, dropout=0.1),
    "gpt_neox, 0.3.0": Case(
        release="0.3.0", adapted=_ALL, precision="32-true", own=_NEOX, theirs={"model_type": "gpt_neox"}
    ),
}
