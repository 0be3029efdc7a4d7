"""What Liger's kernels replace in each model type: ``apply_liger_kernel_to_…`` with its defaults.

Source: Liger-Kernel (0.8.5) src/liger_kernel/transformers/monkey_patch.py, ``MODEL_TYPE_TO_APPLY_LIGER_FN``,
as ``_apply_liger_kernel_to_instance`` patches a model that is loaded, which is what the Trainer calls.
"""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.kernels import LIGER, RMS_NORM, ROPE
from memplan.domain.workload import Loss, Workload

SIMULATED: dict[str, tuple[str, ...]] = {
    "llama": LIGER,
    "mistral": LIGER,
    "qwen2": LIGER,
    "qwen3": LIGER,
    "smollm3": LIGER,
    "granite": LIGER,
    "phi3": LIGER,
    "gemma": LIGER,
    "gemma2": LIGER,
    "gemma3_text": LIGER,
    "olmo2": LIGER,
    # Its experts are clamped, and have no kernel.
    "gpt_oss": LIGER,
    "mixtral": (RMS_NORM, ROPE),
    "qwen3_moe": (RMS_NORM, ROPE),
}
"""Kernels that are simulated, by model type."""

_OTHERS = (
    *("deepseek_v2", "deepseek_v3", "deepseek_v4", "exaone4", "falcon_h1", "gemma3", "gemma4", "gemma4_text"),
    *("glm4", "glm4v", "glm4v_moe", "hunyuan_v1_dense", "hunyuan_v1_moe", "internvl", "llama4"),
    *("llama4_text", "llava", "ministral", "mllama", "mllama_text_model", "muse_glimmer", "nemotron"),
    *("olmo3", "paligemma", "pixtral", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_vl", "qwen2_vl_text"),
    *("qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next", "qwen3_vl"),
    *("qwen3_vl_moe", "qwen3_vl_moe_text", "qwen3_vl_text", "smolvlm"),
)
"""Patched too, of which nothing is simulated."""

OUT_OF_PLACE = ("gemma2", "gemma3_text")
"""Model types whose norms keep the gradient they are given."""

_WHOLE_LOGITS = ("granite",)
_OLDER_LOSS = ("mistral",)
"""Their patch replaces a name that transformers no longer has, so the cross-entropy stays PyTorch's."""


def left_out(shape: Architecture, workload: Workload) -> tuple[str, ...]:
    """The kernels a run asks for that Liger has for the model type, but that are not simulated."""
    if not patched(shape.model_type) or workload.framework.code != "transformers":
        return ()
    simulated = SIMULATED.get(shape.model_type, ())
    return tuple(name for name in workload.kernels.liger if name not in simulated)


def patched(model_type: str) -> bool:
    """Whether Liger has kernels for a model type."""
    return model_type in SIMULATED or model_type in _OTHERS


def loss(model_type: str) -> Loss:
    """The loss that is on by default: Granite's logits are scaled, so its cross-entropy is of whole ones."""
    return in_place(model_type) if model_type in _WHOLE_LOGITS else Loss(kind="fused_linear")


def in_place(model_type: str) -> Loss:
    """What Liger's cross-entropy of whole logits comes to."""
    if model_type in _OLDER_LOSS or not patched(model_type):
        return Loss()
    return Loss(kind="liger_cross_entropy")
