"""What oumi does that is refused, and settings that decide memory and are not simulated."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.oumi.vocabulary import PAST
from memplan.dialects.trainer.losses import at
from memplan.domain.errors import FieldError
from memplan.domain.workload import Unmodelled

TRAINERS = ("hf", "oumi", "trl_sft", "trl_dpo")
REFUSED_TRAINERS = {
    "trl_kto": "every step also runs mismatched completions through a reference model",
    "trl_grpo": "completions are generated between steps, mostly by an engine that shares the GPU",
    "trl_gkd": "a teacher model shares the GPU",
    "trl_gold": "a teacher model shares the GPU",
    "verl_grpo": "actor, reference and rollout share the GPU",
}
REFUSED_FILES = {
    "tasks": "evaluation runs in batches of other programs",
    "judge_params": "a judge answers through an engine of its own",
    "rule_judge_params": "rules need no GPU",
    "strategy_params": "synthesis answers through an engine of its own",
    "analyzers": "an analysis needs no model",
    "tuning": "every trial is another run; give the config of one of them",
    "method": "quantizing a model is not simulated",
}
"""Keys of oumi's configs for other commands than ``oumi train`` and ``oumi infer``."""

_KEPT = ("gradients", "optimizer_state", "activations", "temporaries")
_SETTINGS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "model.freeze_layers": ("frozen layers are counted as trained", _KEPT, ()),
    "peft.lora_exclude_modules": ("excluded layers are counted as adapted", ("adapter", *_KEPT), ()),
    f"{PAST}.packing": ("rows are packed from several sequences", (), ("temporaries",)),
}
_OFF = ("false", "none", "null")


def refuse(keys: Keys) -> None:
    """Stop at files for other commands.

    Raises:
        FieldError: at the key that shows it, with the reason.
    """
    for name, reason in REFUSED_FILES.items():
        value = keys.get(name)
        if value is not None:
            raise not_modelled(value, reason)


def not_modelled(value: Value, reason: str) -> FieldError:
    """The refusal of a value."""
    said = value.described()
    return value.fail(
        f"{'this' if said.startswith('a ') else said} is not modelled: {reason}",
        expected="a config of `oumi train` (trainer_type HF, OUMI, TRL_SFT or TRL_DPO) or of `oumi infer`",
    )


def unmodelled(keys: Keys, kind: str) -> tuple[Unmodelled, ...]:
    """The settings in use, each with its place."""
    found = []
    for key, (reason, shrinks, grows) in _SETTINGS.items():
        value = keys.get(key)
        if value is not None and value.written().lower() not in _OFF:
            found.append(at(value, reason, shrinks=shrinks, grows=grows))
    if kind == "trl_sft" and not keys.flag("model.enable_liger_kernel"):
        place = keys.get("training.trainer_type") or keys.root
        reason = "TRL before 1.10 copies the logits to count how many tokens were right"
        found.append(at(place, reason, grows=("logits_and_loss",)))
    return tuple(found)
