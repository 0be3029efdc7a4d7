"""How oumi spells the Trainer's arguments and adapters, and its own defaults.

Source: ``ModelParams``, ``TrainingParams`` and ``PeftParams`` in src/oumi/core/configs/params (0.9).
"""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.trainer.adapters import LoraKeys
from memplan.dialects.trainer.arguments import Arguments

PAST = "training.trainer_kwargs"
"""Arguments that oumi hands to the trainer as they are."""

VERL = "training.verl_config_overrides"
"""Values of verl's own config."""

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


def arguments(kind: str) -> Arguments:
    """The vocabulary of one trainer: verl gets no batch size of ``training``, KTO no length of ``model``.

    Source: ``_create_config`` in src/oumi/core/trainers/verl_grpo_trainer.py, and ``__post_init__`` of
    ``TrainingConfig`` in src/oumi/core/configs/training_config.py.
    """
    if kind == "verl_grpo":
        return replace(ARGUMENTS, micro=(f"{VERL}.actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",))
    return replace(ARGUMENTS, length=(f"{PAST}.max_length",)) if kind == "trl_kto" else ARGUMENTS


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
