"""What a file trains by: which method its keys show, and what that does to memory.

Pairs pass through the model chosen and rejected together, so that a micro-batch of N pairs is 2·N sequences
(``concatenated_forward``; the collator concatenates since 0.29). A reference model is a second copy of the
weights, unless an adapter is switched off for it, or its log-probabilities were computed before.
"""

from __future__ import annotations

from dataclasses import dataclass

from memplan.dialects.keys import Keys
from memplan.dialects.trainer import rollouts
from memplan.dialects.trainer.rollouts import PROMPT
from memplan.dialects.trl.releases import Release
from memplan.domain.harm import Harm


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way of training: ``paired`` says that a row of data is two sequences, passed on together."""

    name: str
    paired: bool = False


SFT = Method(name="SFT")
PREFERENCE = Method(name="preference training", paired=True)
GRPO = Method(name="GRPO")

GRPO_KEYS = ("num_generations", "reward_funcs", "max_completion_length", "num_iterations", "epsilon")
PREFERENCE_KEYS = (
    "beta",
    "precompute_ref_log_probs",
    "precompute_ref_batch_size",
    "ref_model_init_kwargs",
    "rpo_alpha",
    "max_prompt_length",
    "sync_ref_model",
)


def method(keys: Keys) -> Method:
    """The method that the keys show."""
    found = GRPO if keys.get(*GRPO_KEYS) else PREFERENCE if keys.get(*PREFERENCE_KEYS) else SFT
    sign = keys.get(*GRPO_KEYS) or keys.get(*PREFERENCE_KEYS)
    how = f"{sign.key} is a key of {found.name}" if sign else None
    keys.note("task", sign, "its keys are those of SFT", how=how)
    return found


def length(keys: Keys, release: Release) -> int:
    """GRPO's sequences: a prompt and a completion of the greatest lengths."""
    prompt, completion = keys.whole("max_prompt_length"), keys.whole("max_completion_length")
    place = keys.get("max_completion_length")
    keys.note("sequence.length", place, f"prompts of {PROMPT} tokens, completions of {release.completion}")
    if prompt is None and release.fused:
        keys.warnings.append(
            f"{keys.root.source.path}: nothing bounds the length of prompts; counted as {PROMPT} tokens"
        )
    return (prompt or PROMPT) + (completion or release.completion)


def harm(keys: Keys, found: Method, release: Release) -> tuple[Harm | None, str]:
    """What another micro-batch does to the experiment, and why."""
    if found is not GRPO:
        return None, ""
    kind = keys.word("loss_type") or ("dapo" if release.fused else "bnpo")
    return rollouts.harm(kind)
