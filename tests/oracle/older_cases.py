"""Decoders with layer norms in tiny: GPT-2, GPT-NeoX, OPT and Falcon, in all the shapes they branch on."""

from __future__ import annotations

from itertools import product
from typing import Any

from memplan.domain.workload import Adapter
from memplan.families import linear_names
from tests.oracle.cases import CHECKPOINTED, FP32, KEPT, TIED, TWICE

DRY = {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}
"""GPT-2 without dropout, which a CPU does in other ops than a GPU."""

GPT2 = {"model_type": "gpt2", "num_hidden_layers": 2} | DRY
BIGCODE = {"model_type": "gpt_bigcode", "num_hidden_layers": 2} | DRY
NEOX = {"model_type": "gpt_neox", "num_hidden_layers": 2}
OPT = {"model_type": "opt", "num_hidden_layers": 2, "ffn_dim": 160, "dropout": 0.0}
FALCON = {"model_type": "falcon", "num_hidden_layers": 2}
NEWER_FALCON = FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}
NORMS_AFTER = {"do_layer_norm_before": False, "word_embed_proj_dim": 32}

MODELS: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "gpt_bigcode": BIGCODE,
    "gpt_neox": NEOX,
    "opt": OPT,
    "opt norms after": OPT | NORMS_AFTER,
    "falcon": FALCON,
    "newer falcon": NEWER_FALCON,
}
"""Tiny configurations; what they leave out is ``cases.TINY``."""


def _name(model: str, lora: bool, fp32: bool, checkpointed: bool) -> str:
    words = (model, "lora" * lora, "fp32" * fp32, "checkpointed" * checkpointed)
    return " ".join(word for word in words if word)


def _settings(config: dict[str, Any], lora: bool, fp32: bool, checkpointed: bool) -> dict[str, Any]:
    adapter = {"adapter": Adapter(rank=8, targets=linear_names(config["model_type"]))}
    return (adapter if lora else {}) | (FP32 if fp32 else {}) | (CHECKPOINTED if checkpointed else {})


OLDER_CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    _name(model, *switches): (config, _settings(config, *switches))
    for model, config in MODELS.items()
    for switches in product((False, True), repeat=3)
} | {
    "gpt2 accumulated": (GPT2, TWICE | KEPT),
    "gpt2 gelu untied": (GPT2 | {"activation_function": "gelu", "tie_word_embeddings": False}, KEPT),
    "gpt_neox one after the other": (NEOX | {"use_parallel_residual": False}, CHECKPOINTED | KEPT),
    "gpt_neox turning whole heads": (
        NEOX | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}},
        TWICE,
    ),
    "gpt_neox without biases": (NEOX | TIED | {"attention_bias": False}, TWICE | CHECKPOINTED),
    "opt without biases": (OPT | {"enable_bias": False, "tie_word_embeddings": False}, TWICE | CHECKPOINTED),
    "opt bare norms": (OPT | {"layer_norm_elementwise_affine": False, "activation_function": "gelu"}, KEPT),
    "opt norms after accumulated": (OPT | NORMS_AFTER, TWICE),
    "falcon one after the other": (FALCON | {"parallel_attn": False, "bias": True}, KEPT | TWICE),
    "falcon all heads": (FALCON | {"multi_query": False, "tie_word_embeddings": False}, CHECKPOINTED),
    "falcon one norm": (NEWER_FALCON | {"num_ln_in_parallel_attn": 1}, TWICE),
}
"""Model and settings of each case, by its name."""
