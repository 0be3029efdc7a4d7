"""Runs of litgpt's own recipes: what a published row of theirs says was run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.workload import (
    Adapter,
    Batch,
    Checkpointing,
    Generate,
    Optimizer,
    Outputs,
    Precision,
    Quantization,
    Sequence,
    Task,
    Workload,
    World,
)

_LLAMA = {"model_type": "llama", "vocab_size": 32000}
CONFIGS: dict[str, dict[str, Any]] = {
    "phi-1.5": {
        "model_type": "phi",
        "vocab_size": 51200,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "partial_rotary_factor": 0.5,
        "max_position_embeddings": 2048,
    },
    "phi-2": {
        "model_type": "phi",
        "vocab_size": 51200,
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "partial_rotary_factor": 0.4,
        "max_position_embeddings": 2048,
    },
    "stablelm-base-alpha-3b": {
        "model_type": "gpt_neox",
        "vocab_size": 50688,
        "hidden_size": 4096,
        "intermediate_size": 16384,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "rotary_pct": 0.25,
        "max_position_embeddings": 4096,
    },
    "codellama-34b": {
        **_LLAMA,
        "hidden_size": 8192,
        "intermediate_size": 22016,
        "num_hidden_layers": 48,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": 16384,
    },
}
"""Models that have no profile, as their authors publish them (litgpt/config.py lists the same sides)."""

PROFILES = {
    "llama-2-7b": "meta-llama/Llama-2-7b-hf",
    "llama-2-13b": "meta-llama/Llama-2-13b-hf",
    "llama-2-70b": "meta-llama/Llama-2-70b-hf",
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B",
    "llama-3.2-3b": "meta-llama/Llama-3.2-3B",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "tinyllama-1.1b": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "falcon-7b": "tiiuae/falcon-7b",
    "falcon-40b": "tiiuae/falcon-40b",
    "gemma-2b": "google/gemma-2b",
    "gemma-7b": "google/gemma-7b",
    "gemma-2-9b": "google/gemma-2-9b",
    "phi-3-mini-4k": "microsoft/Phi-3-mini-4k-instruct",
}
"""Short names as hub ids."""

_TARGETS = {"q": "query", "k": "key", "v": "value"}
_NEWER = ("phi-3-mini-4k", "llama-3.2-3b")
"""Models whose recipes came with 0.4.5 (folders of config_hub/finetune); the others are as old as 0.3."""


def named(row: Mapping[str, Any]) -> dict[str, Any]:
    """The model as a config names it."""
    name = str(row["model"])
    return {"config": CONFIGS[name]} if name in CONFIGS else {"ref": PROFILES[name]}


def workload(row: Mapping[str, Any], shape: Architecture) -> Workload:
    """What a row says was run."""
    common: dict[str, Any] = {
        "model": shape,
        "precision": Precision(params=Dtype.BF16),
        "quantization": _quantization(row),
        "framework": Framework(torch="2.1", code="litgpt", litgpt=_release(row)),
    }
    if row["task"] == "generate":
        new = int(row["inference"]["max_new_tokens"])
        prompt = int(row["inference"].get("prompt_tokens_approx", 5))
        generate = Generate(prompt=prompt, new_tokens=new, cache="static", logits="last")
        return Workload(task=Task.GENERATE, generate=generate, outputs=Outputs.KEPT, **common)
    micro = int(row["micro_batch"])
    every = int(str(row["activation_checkpointing"]).startswith("full"))
    return Workload(
        batch=Batch(micro=micro, accumulation=_accumulation(row, micro)),
        sequence=Sequence(length=row["seq_len"]),
        adapter=_adapter(row),
        optimizer=Optimizer(name="paged_adamw_32bit" if common["quantization"] else "adamw"),
        checkpointing=Checkpointing(every=every),
        world=_world(row),
        outputs=Outputs.KEPT,
        **common,
    )


def _world(row: Mapping[str, Any]) -> World:
    """Fabric's ``FSDPStrategy`` over several GPUs, with original parameters and PyTorch's defaults."""
    count = int(row["world_size"])
    return World() if count == 1 else World(data_parallel=count, sharding="fsdp1")


def not_compared(row: Mapping[str, Any]) -> str | None:
    """Why a row would need a guess."""
    if row["world_size"] > 1 and "first iteration" in row["seq_mode"]:
        return "whole gradients stay while batches accumulate whose lengths are not declared"
    return None


def _release(row: Mapping[str, Any]) -> str:
    """litgpt's release, or 0.0 for its repository at the commit that the tables of October 2023 name."""
    if "litgpt_commit" in row["source"]:
        return "0.0"
    return "0.4.5" if row["model"] in _NEWER else "0.3.0"


def contradicts(row: Mapping[str, Any]) -> str | None:
    """What a row's memory shows that is not what it declares.

    The tables name a commit of 16 October (8641822) and came on the 27th. In between, on the 24th, norms
    began to compute in fp32 (6178c7c). With the older norms the four Llamas come out 2.7 to 4.7 % low, with
    the newer 0.2 to 0.3 % high, like the models without such norms.
    """
    if "litgpt_commit" in row["source"] and row["model"].startswith("llama") and row.get("lora"):
        return "the memory is that of norms which came after the commit that the table names"
    return None


def _accumulation(row: Mapping[str, Any], micro: int) -> int:
    """Micro-batches of the length that counts: the tables' script has it in the first one alone."""
    if "first iteration" in row["seq_mode"]:
        return 1
    whole = re.search(r"batch(?:_size)? (\d+)", str(row["grad_accum"]))
    assert whole is not None, row["id"]
    return max(int(whole[1]) // int(row["world_size"]) // micro, 1)


def _quantization(row: Mapping[str, Any]) -> Quantization | None:
    kind = str(row["quantization"])
    if "nf4" not in kind:
        return None
    return Quantization(kind="nf4", double=kind.endswith("dq"), compute=Dtype.BF16)


def _adapter(row: Mapping[str, Any]) -> Adapter | None:
    lora = row["lora"]
    if not lora:
        return None
    targets = tuple(_TARGETS.get(name, name) for name in lora["targets"])
    return Adapter(rank=lora["rank"], targets=targets, dtype=Dtype.BF16, dropout=float(lora["dropout"]))
