"""How LLaMA-Factory spells the Trainer's arguments and adapters, and its own defaults."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.trainer.adapters import LoraKeys
from memplan.dialects.trainer.arguments import Arguments
from memplan.domain.workload import Attention

OFF = ("false", "no", "off", "none", "null", "0", "0.0", "1")
"""Values with which a setting does nothing."""

ARGUMENTS = Arguments(
    framework="LLaMA-Factory",
    length=("cutoff_len",),
    length_default=2048,
    checkpointing=("disable_gradient_checkpointing",),
    checkpointing_default=True,
    inverted=True,
    options=(),
    reentrant=True,
    attention=("flash_attn",),
    implementations={
        "sdpa": Attention.SDPA,
        "auto": Attention.SDPA,
        "disabled": Attention.EAGER,
        "fa2": Attention.FLASH_ATTENTION_2,
    },
    liger=("enable_liger_kernel",),
)
"""``ModelArguments`` and ``DataArguments`` in src/llamafactory/hparams; ``auto`` leaves attention to
transformers (``configure_attn_implementation`` in model/model_utils/attention.py)."""

LORA = LoraKeys(
    switch=("finetuning_type",),
    rank=("lora_rank",),
    targets=("lora_target",),
    targets_default=("all",),
    copied=("additional_target",),
    parameters=(),
    says="LLaMA-Factory's default",
)
"""``LoraArguments`` in src/llamafactory/hparams/finetuning_args.py."""

OFT = replace(LORA, rank=(), dropout=(), targets=("oft_target",), dora=())
OFT_BLOCK = 32
"""``OFTArguments``: inputs of a layer that are rotated together."""
