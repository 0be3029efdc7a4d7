"""Tiny models with Liger's kernels: what is switched on, and how they are trained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from memplan.domain.kernels import GLU, LIGER, RMS_NORM, ROPE, Kernels
from memplan.domain.workload import Loss, Workload
from tests.oracle.cases import ALL_LINEAR, ATTENTION_ONLY, CHECKPOINTED, FP32, TINY, TWICE, workload
from tests.oracle.family_cases import MODELS

EVENTS = Path(__file__).with_name("liger_events.json")
"""Recorded by ``record_liger``: the events of every case."""

RELEASE = "0.8.5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model, its training, and Liger's kernels."""

    config: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    kernels: tuple[str, ...] = LIGER
    loss: str = "fused_linear"

    @property
    def model(self) -> dict[str, Any]:
        """The ``config.json``."""
        return TINY | {"num_hidden_layers": 2} | self.config

    @property
    def workload(self) -> Workload:
        """The case as the simulator takes it."""
        found = workload(self.model, self.settings)
        return replace(found, kernels=Kernels(liger=self.kernels), loss=Loss(kind=self.loss))


_LORA = ATTENTION_ONLY | CHECKPOINTED
_OLMO2 = {"model_type": "olmo2", "pad_token_id": 0, "eos_token_id": 0}
_MIXTRAL = {
    "model_type": "mixtral",
    "num_experts_per_tok": 4,
    "intermediate_size": 80,
    "num_local_experts": 8,
}

_GPT_OSS = {
    "model_type": "gpt_oss",
    "num_experts_per_tok": 4,
    "head_dim": 20,
    "intermediate_size": 40,
    "num_local_experts": 8,
    "sliding_window": 16,
}

_QWEN3_MOE = {
    "model_type": "qwen3_moe",
    "num_experts_per_tok": 4,
    "head_dim": 20,
    "moe_intermediate_size": 40,
    "num_experts": 8,
}

CASES = {
    "llama": Case(),
    "llama lora checkpointed": Case(settings=ALL_LINEAR | CHECKPOINTED),
    "llama fp32 accumulated": Case(settings=FP32 | TWICE),
    "llama norms": Case(kernels=(RMS_NORM,), loss="cross_entropy"),
    "llama gated": Case(kernels=(GLU,), loss="cross_entropy"),
    "llama positions": Case(kernels=(ROPE,), loss="cross_entropy"),
    "llama cross-entropy": Case(kernels=(), loss="liger_cross_entropy"),
    "llama fp32 cross-entropy": Case(settings=FP32, kernels=(), loss="liger_cross_entropy"),
    "qwen2 lora": Case(config={"model_type": "qwen2"}, settings=ATTENTION_ONLY),
    "mistral": Case(config={"model_type": "mistral"}, settings=CHECKPOINTED),
    "qwen3 lora checkpointed": Case(config=MODELS["qwen3"], settings=_LORA),
    "granite": Case(config=MODELS["granite"], loss="liger_cross_entropy"),
    "gemma": Case(config=MODELS["gemma"]),
    "gemma2": Case(config=MODELS["gemma2"], settings=CHECKPOINTED),
    "gemma3": Case(config=MODELS["gemma3"]),
    "gemma3 lora checkpointed": Case(config=MODELS["gemma3"], settings=_LORA),
    "smollm3": Case(config=MODELS["smollm3"]),
    "phi3": Case(config=MODELS["phi3 partly rotating"]),
    "olmo2": Case(config=_OLMO2),
    "olmo2 lora checkpointed": Case(config=_OLMO2, settings=_LORA),
    "gpt_oss": Case(config=_GPT_OSS, loss="cross_entropy"),
    "qwen3_moe": Case(config=_QWEN3_MOE, kernels=(RMS_NORM, ROPE), loss="cross_entropy"),
    "mixtral": Case(config=_MIXTRAL, kernels=(RMS_NORM, ROPE), loss="cross_entropy"),
}
