"""Tiny models under DeepSpeed, which two processes ran for real: how, and what memplan calls the same.

``record_deepspeed.py`` runs them where DeepSpeed is installed, and writes ``deepspeed_events.json``.
"""

from __future__ import annotations

from typing import Any

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 500,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
BATCH, LENGTH, RANKS = 2, 48, 2
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")

SMALL = {"stage3_prefetch_bucket_size": 3686, "stage3_param_persistence_threshold": 640}
SHORT = {"stage3_max_live_parameters": 60_000, "stage3_max_reuse_distance": 60_000}
OFFLOADED = {"offload_optimizer": {"device": "cpu", "pin_memory": False}}

CASES: dict[str, dict[str, Any]] = {
    "zero2": {"zero": {"stage": 2, "reduce_bucket_size": 20_000}, "clipping": True},
    "zero2 accumulated": {"zero": {"stage": 2, "reduce_bucket_size": 20_000}, "accumulation": 2},
    "zero2 overlapping": {
        "zero": {"stage": 2, "reduce_bucket_size": 20_000, "overlap_comm": True},
        "accumulation": 2,
    },
    "zero1": {"zero": {"stage": 1, "reduce_bucket_size": 40_000}, "accumulation": 2},
    "zero1 overlapping": {"zero": {"stage": 1, "reduce_bucket_size": 40_000, "overlap_comm": True}},
    "zero2 fp32 gradients": {
        "zero": {"stage": 2, "reduce_bucket_size": 40_000},
        "accumulation": 2,
        "gradients": "fp32",
    },
    "zero2 checkpointed": {"zero": {"stage": 2, "reduce_bucket_size": 40_000}, "checkpointed": True},
    "zero2 lora": {"zero": {"stage": 2, "reduce_bucket_size": 40_000}, "accumulation": 2, "lora": True},
    "zero2 offloaded": {
        "zero": {"stage": 2, "reduce_bucket_size": 40_000} | OFFLOADED,
        "accumulation": 2,
    },
    "zero2 all reduced in fp32": {
        "zero": {"stage": 2, "reduce_bucket_size": 40_000, "reduce_scatter": False},
        "communication": "fp32",
    },
    "zero3": {"zero": {"stage": 3, "reduce_bucket_size": 4096} | SMALL, "checkpointed": True},
    "zero3 lora": {
        "zero": {"stage": 3, "reduce_bucket_size": 4096} | SMALL,
        "checkpointed": True,
        "lora": True,
    },
    "zero3 accumulated": {
        "zero": {"stage": 3, "reduce_bucket_size": 4096} | SMALL | SHORT,
        "accumulation": 2,
        "checkpointed": True,
    },
    "zero3 deep": {"zero": {"stage": 3, "reduce_bucket_size": 4096} | SMALL | SHORT, "layers": 8},
    "zero3 sub-groups": {
        "zero": {"stage": 3, "reduce_bucket_size": 200_000, "sub_group_size": 30_000} | SMALL,
    },
    "zero3 lora live": {
        "zero": {"stage": 3, "reduce_bucket_size": 200_000}
        | SMALL
        | SHORT
        | {"stage3_max_reuse_distance": 0},
        "lora": True,
    },
}
