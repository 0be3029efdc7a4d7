"""How oumi spells the Trainer's arguments and adapters, and its own defaults.

Source: ``ModelParams``, ``TrainingParams`` and ``PeftParams`` in src/oumi/core/configs/params (0.9).
"""

from __future__ import annotations

from memplan.dialects.trainer.adapters import LoraKeys
from memplan.dialects.trainer.arguments import Arguments

PAST = "training.trainer_kwargs"
"""Arguments that oumi hands to the trainer as they are."""

ARGUMENTS = Arguments(
    framework="oumi",
    prefix="training.",
    micro=("training.per_device_train_batch_size",),
    accumulation=("training.gradient_accumulation_steps",),
    evaluated=("training.per_device_eval_batch_size",),
    length=("model.model_max_length", f"{PAST}.max_length"),
    optim=("training.optimizer",),
    optim_default="adamw_torch",
    clipping=("training.max_grad_norm",),
    bf16=(f"{PAST}.bf16",),
    fp16=(f"{PAST}.fp16",),
    checkpointing=("training.enable_gradient_checkpointing",),
    options=("training.gradient_checkpointing_kwargs",),
    attention=("model.attn_implementation",),
    liger=("model.enable_liger_kernel", f"{PAST}.use_liger_kernel"),
    compiled=("training.compile",),
)

LORA = LoraKeys(
    switch=("training.use_peft",),
    rank=("peft.lora_r",),
    alpha=("peft.lora_alpha",),
    dropout=("peft.lora_dropout",),
    targets=("peft.lora_target_modules",),
    copied=("peft.lora_modules_to_save",),
    parameters=("peft.lora_target_parameters",),
    dora=(),
    says="oumi's default",
)
