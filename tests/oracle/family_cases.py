"""Every family in tiny: full and LoRA training, bf16 and fp32, with and without checkpointing."""

from __future__ import annotations

from itertools import product
from typing import Any

from memplan.domain.workload import Adapter
from memplan.families import linear_names
from tests.oracle.cases import CHECKPOINTED, FP32, TINY

PHI3 = {"model_type": "phi3", "pad_token_id": 0, "eos_token_id": 0}
"""The class default of the padding token lies beyond a tiny vocabulary."""

MODELS: dict[str, dict[str, Any]] = {
    "qwen3": {"model_type": "qwen3", "head_dim": 32},
    "qwen3 late windows": {
        "model_type": "qwen3",
        "head_dim": 16,
        "attention_bias": True,
        "use_sliding_window": True,
        "sliding_window": 16,
        "max_window_layers": 1,
    },
    "granite": {"model_type": "granite"},
    "gemma": {"model_type": "gemma", "head_dim": 32, "num_key_value_heads": 1},
    "gemma2": {"model_type": "gemma2", "head_dim": 32, "sliding_window": 16},
    "gemma3": {
        "model_type": "gemma3_text",
        "head_dim": 32,
        "sliding_window": 16,
        "sliding_window_pattern": 2,
    },
    "gemma3 with a vision tower": {
        "model_type": "gemma3",
        "image_token_index": 5,
        "text_config": {key: value for key, value in TINY.items() if key != "model_type"}
        | {
            "num_hidden_layers": 2,
            "head_dim": 32,
            "sliding_window": 16,
            "sliding_window_pattern": 2,
            "use_cache": False,
        },
        "vision_config": {
            "hidden_size": 48,
            "intermediate_size": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
        },
    },
    "phi": {"model_type": "phi", "num_key_value_heads": 4},
    "smollm3": {
        "model_type": "smollm3",
        "num_hidden_layers": 4,
        "no_rope_layer_interval": 2,
        "use_sliding_window": True,
        "sliding_window": 16,
        "pad_token_id": 0,
    },
    "phi3": PHI3,
    "phi3 partly rotating": PHI3
    | {
        "head_dim": 32,
        "sliding_window": 16,
        "partial_rotary_factor": 0.5,
    },
}
"""Tiny configurations; what they leave out is ``cases.TINY``."""

BLOCKS = {"num_hidden_layers": 2}


def _settings(config: dict[str, Any], lora: bool, fp32: bool, checkpointed: bool) -> dict[str, Any]:
    adapter = {"adapter": Adapter(rank=8, targets=linear_names(config["model_type"]))}
    return (adapter if lora else {}) | (FP32 if fp32 else {}) | (CHECKPOINTED if checkpointed else {})


def _name(model: str, lora: bool, fp32: bool, checkpointed: bool) -> str:
    words = (model, "lora" * lora, "fp32" * fp32, "checkpointed" * checkpointed)
    return " ".join(word for word in words if word)


FAMILY_CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    _name(model, *switches): (BLOCKS | config, _settings(config, *switches))
    for model, config in MODELS.items()
    for switches in product((False, True), repeat=3)
}
"""Model and settings of each case, by its name."""
