"""Looking up axolotl keys as pydantic would read them, and noting where each value came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

from memplan.dialects.fields import Value
from memplan.dialects.reading import Origin
from memplan.documents.tree import MappingNode, ScalarNode

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
_TRUE = ("true", "yes", "on", "1", "y", "t")
_FALSE = ("false", "no", "off", "0", "n", "f")


@dataclass(slots=True, kw_only=True)
class Keys:
    """The top-level values of one file, with what was learned while reading them."""

    entries: Mapping[str, Value]
    root: Value
    origins: dict[str, Origin] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def get(self, key: str) -> Value | None:
        """The value of a key, or None when it is absent or empty."""
        found = self.entries.get(key)
        return None if found is None or found.is_null else found

    def whole(self, key: str) -> int | None:
        """A positive whole number; a quoted one counts."""
        value = self.get(key)
        if value is None:
            return None
        node = value.node
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            digits = node.value.strip()
            if digits.isascii() and digits.isdigit() and len(digits) < 20:
                number = replace(node, value=int(digits))
                return Value(source=value.source, key=value.key, node=number).whole()
        return value.whole()

    def flag(self, key: str) -> bool | None:
        """True or false in any of pydantic's spellings, None when absent."""
        value = self.get(key)
        return None if value is None else truth(value)

    def note(self, path: str, key: str | None, default: str, how: str | None = None) -> None:
        """Record where the value at a native path came from; ``default`` says what holds without the key."""
        value = self.get(key) if key else None
        if value is not None:
            self.origins[path] = Origin(location=value.location, how="written", note=how)
        else:
            self.origins[path] = Origin(how="default", note=default)


def truth(value: Value) -> bool:
    """True or false in any of pydantic's spellings.

    Raises:
        FieldError: it is neither.
    """
    text = value.written().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    return value.flag()


def open_keys(root: Value) -> Keys:
    """The values of a file, with a warning for every repeated key and every near miss."""
    keys = Keys(entries=root.entries(repeats=True), root=root)
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
    for name, value in keys.entries.items():
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
