"""Which recipe a file is for, as far as memory goes."""

from __future__ import annotations

import re
from enum import StrEnum

from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin

_COMMAND = re.compile(r"^#.*\btune run (?:--\S+ \S+ )*(?:dev/)?([a-z0-9_]+)", re.MULTILINE)
_SEVERAL = (
    "fsdp_cpu_offload",
    "fsdp_reshard_after_forward",
    "custom_sharded_layers",
    "data_parallel_shard_dim",
    "data_parallel_replicate_dim",
    "tensor_parallel_dim",
    "tensor_parallel_plan",
    "context_parallel_dim",
    "ac_mode",
)
"""Keys that only recipes for several GPUs read."""

_REINFORCED = ("reward_functions", "ppo_epochs", "grpo_samples", "reward_and_value_model", "ref_checkpointer")


class Kind(StrEnum):
    """What a recipe does."""

    TRAIN = "train"
    DISTIL = "distil"
    PREFER = "prefer"
    REINFORCE = "reinforce"
    GENERATE = "generate"
    EVALUATE = "evaluate"

    @property
    def trains(self) -> bool:
        """Whether there is a backward pass."""
        return self not in (Kind.GENERATE, Kind.EVALUATE)


def kind(keys: Keys) -> Kind:
    """The kind of recipe the keys are for.

    Raises:
        FieldError: none that takes a step or answers anything, such as one that converts weights.
    """
    rewarded = "rlhf" in (keys.word("loss._component_") or "")
    if rewarded and "lora_" in (keys.word("model._component_") or ""):
        return Kind.PREFER
    if rewarded or keys.has(*_REINFORCED):
        return Kind.REINFORCE
    if keys.get("teacher_model") is not None:
        return Kind.DISTIL
    if keys.get("optimizer") is not None:
        return Kind.TRAIN
    if keys.has("tasks"):
        return Kind.EVALUATE
    if keys.has("prompt", "max_new_tokens"):
        return Kind.GENERATE
    raise keys.root.fail(
        "nothing here is trained, evaluated or generated",
        expected="optimizer: of a training recipe, tasks: of an evaluation, or prompt: of a generation",
    )


def distributed(keys: Keys) -> bool:
    """Whether the recipe is one for several GPUs, which shards states over them (FSDP2).

    The command in the file's comments says so; without it, keys that only such recipes read.
    """
    command = _COMMAND.search(keys.root.source.text)
    if command is not None:
        several = command[1].endswith("_distributed")
        note = f"assumed from the command in the comments: {command[1]}"
    else:
        several = keys.has(*_SEVERAL)
        note = "assumed from the keys: no comment names the recipe"
    keys.origins["world.sharding"] = Origin(how="assumed", note=note)
    return several
