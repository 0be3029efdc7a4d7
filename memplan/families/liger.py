"""What Liger's kernels replace in each model type: ``apply_liger_kernel_to_…`` with its defaults.

Source: Liger-Kernel (0.8.5) src/liger_kernel/transformers/monkey_patch.py, ``MODEL_TYPE_TO_APPLY_LIGER_FN``,
as ``_apply_liger_kernel_to_instance`` patches a model that is loaded, which is what the Trainer calls.
"""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.kernels import GLU, LIGER, RMS_NORM, ROPE
from memplan.domain.workload import Loss, Workload
from memplan.simulator.patches import NONE, Patches

_SIMULATED: dict[str, tuple[str, ...]] = {
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
    "olmo2": (GLU, ROPE),
    "mixtral": (RMS_NORM, ROPE),
    "qwen3_moe": (RMS_NORM, ROPE),
}
_OTHERS = ("deepseek_v3", "gemma3", "gpt_oss")
"""Patched too, of which nothing is simulated."""

_OUT_OF_PLACE = ("gemma2", "gemma3_text")
_WHOLE_LOGITS = ("granite",)


def patches(shape: Architecture, workload: Workload) -> Patches:
    """The replacements that are simulated, of those a run asks for."""
    asked = workload.kernels.liger
    if not asked or workload.framework.code != "transformers":
        return NONE
    on = [name for name in _SIMULATED.get(shape.model_type, ()) if name in asked]
    return Patches(
        rms_norm=RMS_NORM in on,
        in_place=shape.model_type not in _OUT_OF_PLACE,
        glu=GLU in on,
        rope=ROPE in on,
    )


def left_out(shape: Architecture, workload: Workload) -> tuple[str, ...]:
    """The kernels a run asks for that Liger has for the model type, but that are not simulated."""
    if shape.model_type not in (*_SIMULATED, *_OTHERS) or workload.framework.code != "transformers":
        return ()
    simulated = _SIMULATED.get(shape.model_type, ())
    return tuple(name for name in workload.kernels.liger if name not in simulated)


def loss(model_type: str) -> Loss:
    """The loss Liger brings: none of its own where it has no kernels for the model type.

    Granite scales its logits, so it gets the cross-entropy of whole logits.
    """
    if model_type not in (*_SIMULATED, *_OTHERS):
        return Loss()
    return Loss(kind="liger_cross_entropy" if model_type in _WHOLE_LOGITS else "fused_linear")
