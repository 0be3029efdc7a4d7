"""The keys of an axolotl file: repeated ones, and those that axolotl drops without a word."""

from __future__ import annotations

from difflib import SequenceMatcher

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.documents.tree import MappingNode

MEMORY_KEYS = (
    "adapter",
    "activation_offloading",
    "attn_implementation",
    "base_model",
    "batch_size",
    "bf16",
    "chunked_cross_entropy",
    "cut_cross_entropy",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "deepspeed",
    "fp16",
    "fsdp",
    "fsdp_config",
    "fsdp_version",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "load_in_4bit",
    "load_in_8bit",
    "lora_dropout",
    "lora_target_linear",
    "lora_target_modules",
    "lora_target_parameters",
    "lora_modules_to_save",
    "micro_batch_size",
    "optimizer",
    "sample_packing",
    "save_only_model",
    "save_total_limit",
    "sequence_len",
    "liger_fused_linear_cross_entropy",
)
"""Keys whose misspelling would change the memory without a word."""

LIKE_THEM = (
    "base_model_config",
    "base_model_ignore_patterns",
    "deepspeed_config",
    "eval_batch_size",
    "eval_sample_packing",
    "eval_sequence_len",
    "fsdp_final_state_dict_type",
    "gradient_checkpointing_kwargs",
    "optimizers",
    "excess_length_strategy",
    "max_sequence_len",
    "unsloth_cross_entropy_loss",
    "liger_cross_entropy",
    "batch_flattening",
    "sample_packing_bin_size",
    "sample_packing_group_size",
    "sample_packing_sequentially",
    "sample_packing_eff_est",
)
"""Real keys that look like one of the above."""

_CLOSE = 0.84


def open_keys(root: Value) -> Keys:
    """The values of a file, with a warning for every repeated key and every near miss."""
    entries = root.entries(repeats=True)
    keys = Keys(root=root, lenient=True)
    node = root.node
    if isinstance(node, MappingNode):
        for repeated in node.duplicates:
            lines = [
                root.source.line(item.key.span)
                for item in node.items
                if item.key.value == repeated.value and not item.merged
            ]
            warning = (
                f"{root.source.path}: {repeated.value} is written in lines {' and '.join(map(str, lines))}; "
                f"line {lines[-1]} counts"
            )
            if warning not in keys.warnings:
                keys.warnings.append(warning)
    for name, value in entries.items():
        if (meant := near_miss(name)) is not None and keys.get(meant) is None:
            keys.warnings.append(
                f"{root.source.path}:{value.location.line}: axolotl ignores {name}; did you mean {meant}?"
            )
    return keys


def near_miss(name: str) -> str | None:
    """The memory key that an unknown key was probably meant to be."""
    if (
        name in MEMORY_KEYS
        or name in LIKE_THEM
        or name.startswith(("liger_", "wandb_", "lora_mlp", "lora_qkv"))
    ):
        return None
    near = [key for key in MEMORY_KEYS if _could_be_close(name, key)]
    scores = {key: SequenceMatcher(None, name, key).ratio() for key in near}
    best = max(near, key=lambda key: scores[key], default=None)
    return best if best is not None and scores[best] >= _CLOSE else None


def _could_be_close(name: str, key: str) -> bool:
    """Whether the ratio can reach the threshold: a letter that only one of the two has matches nothing."""
    matching = _CLOSE * (len(name) + len(key)) / 2
    letters, others = set(name), set(key)
    return len(name) - len(letters - others) >= matching and len(key) - len(others - letters) >= matching
