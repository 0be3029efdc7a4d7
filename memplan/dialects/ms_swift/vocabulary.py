"""How ms-swift spells the Trainer's arguments and adapters, and its own defaults.

Source: ``TrainArgumentsMixin`` in swift/trainers/arguments.py, ``TunerArguments`` and ``BaseArguments`` in
swift/arguments (4.6).
"""

from __future__ import annotations

from memplan.dialects.trainer.adapters import LoraKeys
from memplan.dialects.trainer.arguments import ATTENTION, Arguments
from memplan.domain.workload import Attention

TUNER = ("tuner_type", "train_type", "train.tuner_type")
"""Since version 4, before, and in the section of a run under Ray."""

ARGUMENTS = Arguments(
    framework="ms-swift",
    micro=("per_device_train_batch_size", "micro_batch_size"),
    micro_default=1,
    evaluated_default=1,
    length=("max_length",),
    checkpointing=("gradient_checkpointing",),
    checkpointing_default=True,
    reentrant=True,
    attention=("attn_impl",),
    implementations={"flash_attn": Attention.FLASH_ATTENTION_2, **ATTENTION},
    liger=("use_liger_kernel",),
    workers=1,
)
"""Reentrant is what ``_fix_gradient_checkpointing`` in swift/trainers/mixin.py takes on one GPU, and under
DeepSpeed or FSDP on several."""

LORA = LoraKeys(
    switch=TUNER,
    asks="lora",
    rank=("lora_rank", "train.lora_rank"),
    dropout_default=0.05,
    targets=("target_modules",),
    targets_default=("all-linear",),
    copied=("modules_to_save",),
    parameters=("target_parameters",),
    says="ms-swift's default",
)

GLOBAL = 16
"""Sequences per step that ms-swift accumulates to when ``gradient_accumulation_steps`` is absent."""
