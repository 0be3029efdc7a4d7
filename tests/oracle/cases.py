"""Tiny models and settings that are run for real; together they reach every branch of a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memplan.domain.dtype import Dtype
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Optimizer,
    Outputs,
    Precision,
    Sequence,
    Workload,
)
from memplan.families import architecture
from memplan.families.llama import PROJECTIONS

TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
}
MISTRAL = {"model_type": "mistral"}
QWEN2 = {"model_type": "qwen2"}
TIED = {"tie_word_embeddings": True}
FP32 = {"precision": Precision(params=Dtype.FP32)}
CHECKPOINTED = {"checkpointing": Checkpointing(every=1)}
REENTRANT = {"checkpointing": Checkpointing(every=1, reentrant=True)}
TWICE = {"batch": Batch(micro=2, accumulation=2)}
KEPT = {"outputs": Outputs.KEPT}
UNTIL_STEP = {"outputs": Outputs.UNTIL_STEP}
ATTENTION_ONLY = {"adapter": Adapter(rank=8, targets=PROJECTIONS[:4])}
DORA = {"adapter": Adapter(rank=8, targets=PROJECTIONS, dora=True)}
SAVED = {"adapter": Adapter(rank=8, targets=PROJECTIONS[:4], modules_to_save=("embed_tokens", "lm_head"))}
HEAD_SAVED = {"adapter": Adapter(rank=8, targets=PROJECTIONS[:4], modules_to_save=("lm_head",))}
ALL_LINEAR = {"adapter": Adapter(rank=16, targets=PROJECTIONS)}
STAYING = {"optimizer": Optimizer(set_to_none=False)}
ONE_BY_ONE = {"optimizer": Optimizer(implementation="for_loop")}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": ({}, {}),
    "llama fp32": ({}, FP32),
    "llama outputs kept": ({}, KEPT),
    "llama outputs until the step": ({}, FP32 | UNTIL_STEP | TWICE),
    "llama tied": (TIED, {}),
    "llama tied accumulated": (TIED, TWICE | KEPT),
    "llama checkpointed": ({}, CHECKPOINTED),
    "llama checkpointed fp32 accumulated": ({}, CHECKPOINTED | FP32 | TWICE),
    "llama accumulated": ({}, TWICE),
    "llama gradients stay": ({}, STAYING),
    "llama gradients stay accumulated": ({}, STAYING | TWICE),
    "llama optimizer one by one": ({}, ONE_BY_ONE),
    "llama biases": ({"attention_bias": True, "mlp_bias": True}, {}),
    "llama wide heads": ({"head_dim": 32}, {}),
    "llama ungrouped heads": ({"num_key_value_heads": 4}, {}),
    "llama one key head": ({"num_key_value_heads": 1}, {}),
    "llama lora": ({}, ATTENTION_ONLY),
    "llama lora fp32": ({}, ATTENTION_ONLY | FP32),
    "llama lora all linear outputs kept": ({}, ALL_LINEAR | KEPT),
    "llama lora checkpointed": ({}, ATTENTION_ONLY | CHECKPOINTED),
    "llama lora checkpointed accumulated": (TIED, ALL_LINEAR | CHECKPOINTED | TWICE),
    "mistral": (MISTRAL, {}),
    "mistral window": (MISTRAL | {"sliding_window": 16}, KEPT),
    "llama reentrant": ({}, REENTRANT),
    "llama reentrant fp32 accumulated": ({}, REENTRANT | FP32 | TWICE),
    "llama lora reentrant outputs kept": ({}, ALL_LINEAR | REENTRANT | KEPT),
    "qwen2 lora reentrant": (QWEN2, ATTENTION_ONLY | REENTRANT),
    "llama dora fp32": ({}, DORA | FP32),
    "llama dora checkpointed fp32": ({}, DORA | CHECKPOINTED | FP32),
    "qwen2 dora fp32 accumulated": (QWEN2, DORA | FP32 | TWICE),
    "llama lora embeddings and head saved": ({}, SAVED),
    "llama lora embeddings and head saved checkpointed": ({}, SAVED | CHECKPOINTED),
    "llama lora head saved accumulated": ({}, HEAD_SAVED | TWICE),
    "mistral lora checkpointed fp32": (MISTRAL, ATTENTION_ONLY | CHECKPOINTED | FP32),
    "qwen2 tied accumulated": (QWEN2 | TIED, TWICE),
    "qwen2 checkpointed": (QWEN2, CHECKPOINTED),
    "qwen2 fp32 accumulated": (QWEN2, FP32 | TWICE),
    "qwen2 two masks": (
        QWEN2 | {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
        {},
    ),
    "qwen2 lora": (QWEN2, ATTENTION_ONLY),
    "qwen2 lora checkpointed": (QWEN2, ALL_LINEAR | CHECKPOINTED),
}


def workload(config: Mapping[str, Any], settings: Mapping[str, Any]) -> Workload:
    """A case as the simulator takes it: eager attention, the only kind the CPU runs like a GPU."""
    plain: dict[str, Any] = {
        "batch": Batch(micro=2),
        "sequence": Sequence(length=48),
        "attention": Attention.EAGER,
    }
    return Workload(model=architecture(config, lambda _: None), **(plain | dict(settings)))
