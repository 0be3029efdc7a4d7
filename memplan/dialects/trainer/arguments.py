"""How a framework spells the Hugging Face Trainer's arguments, and what holds for those it isn't given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from memplan.domain.workload import Attention

Names = tuple[str, ...]
"""Dotted keys: the usual one first, then older names and aliases. Writing keeps the one that is there."""

ATTENTION: Mapping[str, Attention] = {
    "eager": Attention.EAGER,
    "sdpa": Attention.SDPA,
    "flash_attention_2": Attention.FLASH_ATTENTION_2,
}
"""``attn_implementation`` as transformers names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The vocabulary of one framework that trains with the Trainer.

    Defaults are those of transformers (5.23, src/transformers/training_args.py); a framework replaces what it
    has otherwise. Keys of the Trainer that no field names stand under ``prefix`` (``"training."``).

    Attributes:
        framework: its name, as in "TRL's default".
        checkpointing: keys of the switch; with ``inverted`` true turns it off.
        options: keys of the mapping with ``use_reentrant``, ``every_n_layers`` and ``offload``.
        reentrant: the variant of checkpointing when nothing is said; transformers 5 has the newer one.
        implementations: words for kinds of attention; ``spelled`` turns one into another for writing.
        autocast: whether ``bf16`` holds when neither ``bf16`` nor ``fp16`` is written.
        workers: of the DataLoader when none are named.
        kept: checkpoints on disk without ``save_total_limit``; with no limit at all, one is counted.
    """

    framework: str = "the Trainer"
    prefix: str = ""
    micro: Names = ("per_device_train_batch_size",)
    micro_default: int = 8
    accumulation: Names = ("gradient_accumulation_steps",)
    accumulation_default: int = 1
    evaluated: Names = ("per_device_eval_batch_size",)
    evaluated_default: int = 8
    length: Names = ("max_length", "max_seq_length")
    length_default: int = 1024
    optim: Names = ("optim",)
    optim_default: str = "adamw_torch_fused"
    clipping: Names = ("max_grad_norm",)
    bf16: Names = ("bf16",)
    fp16: Names = ("fp16",)
    autocast: bool = False
    checkpointing: Names = ("gradient_checkpointing", "activation_checkpointing")
    checkpointing_default: bool = False
    inverted: bool = False
    options: Names = ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs")
    reentrant: bool = False
    attention: Names = ("attn_implementation",)
    implementations: Mapping[str, Attention] = field(default_factory=lambda: ATTENTION)
    liger: Names = ("use_liger_kernel", "use_liger")
    compiled: Names = ("torch_compile", "compile")
    kept: int = 1
    workers: int = 0

    @property
    def default(self) -> str:
        """The words before the value of a default."""
        return f"{self.framework}'s default"

    def names(self, *names: str) -> Names:
        """Keys of the Trainer's own as this framework has them."""
        return tuple(f"{self.prefix}{name}" for name in names)

    def spelled(self, kind: Attention) -> str | None:
        """The framework's word for a kind of attention, None if it has none."""
        return next((name for name, meant in self.implementations.items() if meant is kind), None)
