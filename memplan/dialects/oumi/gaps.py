"""What oumi does that is refused, and settings that decide memory and are not simulated."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.oumi import rollouts
from memplan.dialects.oumi.vocabulary import PAST
from memplan.dialects.trainer import methods, pairs
from memplan.dialects.unmodelled import in_use, placed
from memplan.domain.errors import FieldError
from memplan.domain.workload import Unmodelled, Workload

TRAINERS = (
    "hf",
    "oumi",
    "trl_sft",
    "trl_dpo",
    "trl_kto",
    "trl_grpo",
    "trl_gkd",
    "trl_gold",
    "verl_grpo",
)
"""``TrainerType`` in src/oumi/core/configs/params/training_params.py."""

_TEACHERS = ("trl_gkd", "trl_gold")
_TAUGHT = "a teacher model shares the GPU, and answers are generated between steps"
_COUNTED = Unmodelled(
    reason="TRL before 1.10 copies the logits to count how many tokens were right", logits=1
)
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
_SETTINGS = {
    "model.freeze_layers": Unmodelled(reason="frozen layers are counted as trained", shrinks=_KEPT),
    "peft.lora_exclude_modules": Unmodelled(
        reason="excluded layers are counted as adapted", shrinks=("adapter", *_KEPT)
    ),
    f"{PAST}.packing": Unmodelled(reason="rows are packed from several sequences", grows=("temporaries",)),
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
        expected="a config of `oumi train`, or of `oumi infer` with the native engine",
    )


def unmodelled(keys: Keys, kind: str, run: Workload) -> Iterator[Unmodelled]:
    """The settings in use and what the trainer has on top, each with its place."""
    yield from in_use(keys, _SETTINGS, _OFF)
    place = keys.get("training.trainer_type") or keys.root
    if kind == "trl_sft" and not keys.flag("model.enable_liger_kernel"):
        yield placed(place, _COUNTED)
    if kind == "trl_dpo":
        yield from pairs.gaps(place, reference=run.adapter is None)
    if kind == "trl_kto":
        yield from methods.unpaired(place, reference=run.adapter is None)
    if kind in _TEACHERS:
        yield methods.beyond(place, _TAUGHT)
    if kind in rollouts.KINDS:
        yield from rollouts.gaps(keys, kind, run)
