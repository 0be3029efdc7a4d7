"""Encoders in tiny: BERT with each of its heads, ViT, and T5 with its decoder."""

from __future__ import annotations

from itertools import product
from typing import Any

from memplan.domain.workload import Adapter
from memplan.families import linear_names
from tests.oracle.cases import CHECKPOINTED, FP32, KEPT, TWICE

DRY = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SIZES = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4}
BERT = {"model_type": "bert", "vocab_size": 500, "classifier_dropout": 0.0} | SIZES | DRY
MASKED = BERT | {"architectures": ["BertForMaskedLM"]}
SEQUENCES = BERT | {"architectures": ["BertForSequenceClassification"], "num_labels": 3}
TOKENS = BERT | {"architectures": ["BertForTokenClassification"], "num_labels": 30}
VIT = (
    {"model_type": "vit", "architectures": ["ViTForImageClassification"], "num_labels": 10}
    | {"image_size": 42, "patch_size": 6}
    | SIZES
)
T5 = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 160,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": 500,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
    "use_cache": False,
}
GATED_T5 = T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 3}

MODELS: dict[str, dict[str, Any]] = {
    "bert words": MASKED,
    "bert sequences": SEQUENCES,
    "bert tokens": TOKENS,
    "vit": VIT,
    "t5": T5,
    "gated t5": GATED_T5,
}


def _settings(config: dict[str, Any], lora: bool, fp32: bool, checkpointed: bool) -> dict[str, Any]:
    adapter = {"adapter": Adapter(rank=8, targets=linear_names(config["model_type"]))}
    return (adapter if lora else {}) | (FP32 if fp32 else {}) | (CHECKPOINTED if checkpointed else {})


def _name(model: str, lora: bool, fp32: bool, checkpointed: bool) -> str:
    words = (model, "lora" * lora, "fp32" * fp32, "checkpointed" * checkpointed)
    return " ".join(word for word in words if word)


ENCODER_CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    _name(model, *switches): (config, _settings(config, *switches))
    for model, config in MODELS.items()
    for switches in product((False, True), repeat=3)
} | {
    "bert words accumulated": (MASKED | {"hidden_act": "gelu_new"}, TWICE | KEPT),
    "bert sequences accumulated": (SEQUENCES, TWICE | CHECKPOINTED),
    "bert attention adapted": (TOKENS, {"adapter": Adapter(rank=8, targets=("query", "value"))}),
    "vit without biases": (VIT | {"qkv_bias": False}, TWICE),
    "vit accumulated": (VIT, TWICE | KEPT | CHECKPOINTED),
    "t5 accumulated": (T5, TWICE | KEPT),
    "gated t5 accumulated": (GATED_T5, TWICE | CHECKPOINTED),
}
"""Model and settings of each case, by its name."""
