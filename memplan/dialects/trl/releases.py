"""Which release of TRL a file is written for, and what that release does when nothing is said.

A file does not name it, but argparse refuses keys it does not know: a key that newer releases have dropped
shows that the file is for an older one. Defaults: trl/trainer/sft_config.py, base_config.py, dpo_config.py,
grpo_config.py and model_config.py of 0.18.2 and of 1.16.0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.trainer import Arguments

DROPPED = (
    "max_seq_length",
    "overwrite_output_dir",
    "evaluation_strategy",
    "torch_dtype",
    "max_prompt_length",
    "vllm_device",
    "use_liger",
)
"""Keys of releases before 0.20 to 1.0 (or of transformers 4 beside them) that 1.16 refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What one release does: ``fused`` says that no trainer makes whole logits any more.

    ``packs_rows`` says that packed sequences are laid end to end in one row (since 0.20), ``kbit`` that
    quantized models go through ``prepare_model_for_kbit_training``, ``colocated`` that vLLM shares the GPU
    unless said otherwise. ``beta`` is GRPO's weight of the reference model, ``completion`` its
    ``max_completion_length``.
    """

    arguments: Arguments
    fused: bool
    packs_rows: bool
    kbit: bool
    colocated: bool
    beta: float
    completion: int


LATEST = Release(
    arguments=Arguments(framework="TRL", autocast=True, checkpointing_default=True),
    fused=True,
    packs_rows=True,
    kbit=False,
    colocated=True,
    beta=0.0,
    completion=512,
)
OLDER = Release(
    arguments=Arguments(framework="TRL before 0.20", reentrant=True),
    fused=False,
    packs_rows=False,
    kbit=True,
    colocated=False,
    beta=0.04,
    completion=256,
)


def release(keys: Keys) -> tuple[Release, Value | None]:
    """The release whose keys a file has, and the key that shows an older one."""
    sign = keys.get(*DROPPED)
    if sign is None:
        return LATEST, None
    if keys.has("packing_strategy"):
        return replace(OLDER, packs_rows=True), sign
    return OLDER, sign
