"""Every family in tiny, for the real classes on fake tensors: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from itertools import product
from typing import Any, NamedTuple

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.workload import Adapter, Attention, Batch, Checkpointing, Precision, Sequence, Workload
from memplan.families import architecture, linear_names
from tests.oracle import encoder_cases, family_cases, test_mixtures
from tests.oracle.cases import MISTRAL, QWEN2, TINY

BLOCKS = TINY | {"num_hidden_layers": 2}
EIGHTS = {"head_dim": 24}
"""Fused kernels pad heads whose width is no multiple of eight, which is not simulated."""

DECODERS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": MISTRAL,
    "mistral with windows": MISTRAL | {"sliding_window": 16},
    "qwen2": QWEN2,
    "qwen2 with windows": QWEN2 | {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    **family_cases.MODELS,
    "gpt2": {"model_type": "gpt2"},
    "gpt_neox": {"model_type": "gpt_neox"},
    "opt": {"model_type": "opt", "ffn_dim": 160, "word_embed_proj_dim": 64},
    "falcon": {"model_type": "falcon"},
    "mixtral": test_mixtures.MIXTRAL,
    "qwen3_moe": test_mixtures.QWEN3 | EIGHTS,
    "deepseek_v3": test_mixtures.DEEPSEEK,
    "gpt_oss": test_mixtures.GPT_OSS | EIGHTS,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": encoder_cases.BERT | {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    **encoder_cases.MODELS,
}
MODELS = {name: BLOCKS | config for name, config in DECODERS.items()} | ENCODERS
"""``config.json`` of each model, by its name."""

PRECISIONS = {
    "bf16": Precision(params=Dtype.BF16),
    "autocast": Precision(params=Dtype.FP32, autocast=Dtype.BF16),
}
MATRIX = tuple(product((False, True), PRECISIONS, (Attention.SDPA, Attention.EAGER), (0, 1)))
"""LoRA or not, precision, attention, checkpointing or not."""


class Case(NamedTuple):
    """A model, its workload, and the compute capability of the GPU."""

    config: Mapping[str, Any]
    workload: Workload
    capability: tuple[int, int] = (8, 0)


def case(
    model: str,
    *,
    lora: bool = False,
    precision: Precision = PRECISIONS["bf16"],
    attention: Attention = Attention.SDPA,
    checkpointed: int | Checkpointing = 0,
    capability: tuple[int, int] = (8, 0),
    **settings: Any,
) -> Case:
    """A model in a setting, run by the releases that are installed."""
    config = MODELS[model]
    plain: dict[str, Any] = {
        "batch": Batch(micro=2),
        "sequence": Sequence(length=64),
        "adapter": Adapter(rank=8, targets=_targets(config)) if lora else None,
        "framework": Framework(torch=_release("torch"), transformers=_release("transformers")),
    }
    found = Workload(
        model=architecture(config, lambda _: None),
        precision=precision,
        attention=attention,
        checkpointing=Checkpointing(every=checkpointed) if isinstance(checkpointed, int) else checkpointed,
        **(plain | settings),
    )
    return Case(config, found, capability)


def _targets(config: Mapping[str, Any]) -> tuple[str, ...]:
    if "moe_intermediate_size" in config or "num_local_experts" in config:
        adapter: Adapter = test_mixtures.lora(dict(config))["adapter"]
        return adapter.targets
    return linear_names(config["model_type"])


def _release(library: str) -> str:
    return version(library).partition("+")[0]
