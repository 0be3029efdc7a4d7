"""What a file trains by: which method its keys show, and what that does to memory.

Pairs pass through the model chosen and rejected together, so that a micro-batch of N pairs is 2·N sequences
(``concatenated_forward``; the collator concatenates since 0.29). A reference model is a second copy of the
weights, unless an adapter is switched off for it, or its log-probabilities were computed before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.trainer import Model
from memplan.dialects.trainer.losses import at
from memplan.dialects.trl.releases import Release
from memplan.domain.harm import Harm
from memplan.domain.workload import Unmodelled

WEIGHTS = ("embeddings", "decoder_matrix", "blocks")
PROMPT = 512
"""Tokens of a prompt where nothing bounds them: what older releases cut them to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way of training: ``sequences`` of a row of data that pass through the model together."""

    name: str
    sequences: int = 1


SFT = Method(name="SFT")
PREFERENCE = Method(name="preference training", sequences=2)
GRPO = Method(name="GRPO")

_GRPO = ("num_generations", "reward_funcs", "max_completion_length", "num_iterations", "epsilon")
_PREFERENCE = (
    "beta",
    "precompute_ref_log_probs",
    "precompute_ref_batch_size",
    "ref_model_init_kwargs",
    "rpo_alpha",
    "max_prompt_length",
    "sync_ref_model",
)
_BEYOND = {
    "desirable_weight": "KTO passes mismatched completions through a reference model too",
    "undesirable_weight": "KTO passes mismatched completions through a reference model too",
    "teacher_model_name_or_path": "distillation runs a second model, the teacher",
    "reward_model_path": "PPO and RLOO run a reward model and a value model beside the one they train",
    "num_ppo_epochs": "PPO and RLOO run a reward model and a value model beside the one they train",
    "center_rewards_coefficient": "a reward model ends in a score, and is given two answers at a time",
}
"""Keys of methods that are counted like SFT of the same model, and whose further parts nothing bounds."""

_CLASSIFIES = "SEQ_CLS"


def method(keys: Keys) -> Method:
    """The method that the keys show."""
    found = GRPO if _shown(keys, _GRPO) else PREFERENCE if _shown(keys, _PREFERENCE) else SFT
    sign = _shown(keys, _GRPO) or _shown(keys, _PREFERENCE)
    how = f"{sign.key} is a key of {found.name}" if sign else None
    keys.note("task", sign, "its keys are those of SFT", how=how)
    return found


def beyond(keys: Keys) -> tuple[Unmodelled, ...]:
    """Methods with models and batches that are not planned: said, and no verdict given."""
    found = [(keys.get(name), why) for name, why in _BEYOND.items()]
    task = keys.get("lora_task_type")
    if task is not None and task.written() == _CLASSIFIES:
        found.append((task, _BEYOND["center_rewards_coefficient"]))
    return tuple(
        replace(at(value, f"counted as SFT: {why}"), unbounded=True)
        for value, why in found
        if value is not None
    )


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


def gaps(keys: Keys, found: Method, release: Release, model: Model, cached: int) -> tuple[Unmodelled, ...]:
    """What a method adds that is not simulated; ``cached`` are the bytes of keys and values of generation."""
    if found is PREFERENCE:
        return (*_reference(keys, model, ask=True), *_scores(keys, release))
    if found is GRPO:
        return (
            *_reference(keys, model, ask=_beta(keys, release) > 0),
            *_scores(keys, release),
            *_generation(keys, release, cached),
        )
    return _accuracy(keys, release)


def harm(keys: Keys, found: Method, release: Release) -> tuple[Harm | None, str]:
    """What another micro-batch does to the experiment, and why."""
    if found is not GRPO:
        return None, ""
    kind = keys.word("loss_type") or ("dapo" if release.fused else "bnpo")
    if kind == "bnpo":
        return Harm.BEHAVIOUR, "this loss of GRPO is an average over the tokens of each micro-batch"
    return Harm.NUMERIC, "GRPO shuffles what it generated and cuts it into other micro-batches"


def _shown(keys: Keys, names: tuple[str, ...]) -> Value | None:
    return keys.get(*names)


def _beta(keys: Keys, release: Release) -> float:
    value = keys.get("beta")
    return release.beta if value is None else float(value.written()) if _is_number(value) else 1.0


def _is_number(value: Value) -> bool:
    return value.written().replace(".", "", 1).replace("e-", "", 1).isdigit()


def _reference(keys: Keys, model: Model, *, ask: bool) -> tuple[Unmodelled, ...]:
    """The copy of the weights that log-probabilities are compared with, and its own pass."""
    if not ask or model.adapter is not None or keys.flag("precompute_ref_log_probs"):
        return ()
    place = _shown(keys, ("beta", *_PREFERENCE, *_GRPO)) or keys.root
    which = "DPO and GRPO keep a copy of the model as reference, which ORPO, CPO and SimPO do not"
    reason = f"{which}; its weights and its pass are not in the point estimate"
    return (at(place, reason, grows=(*WEIGHTS, "logits_and_loss", "temporaries")),)


def _scores(keys: Keys, release: Release) -> tuple[Unmodelled, ...]:
    """Older trainers take log-probabilities from whole logits in code of their own."""
    if release.fused:
        return ()
    place = _shown(keys, (*_PREFERENCE, *_GRPO)) or keys.root
    reason = "log-probabilities are counted like cross-entropy of all tokens"
    return (at(place, reason, shrinks=("logits_and_loss",), grows=("logits_and_loss",)),)


def _generation(keys: Keys, release: Release, cached: int) -> tuple[Unmodelled, ...]:
    """Keys and values of completions being generated; vLLM has them elsewhere, or a share of this GPU."""
    use, mode = keys.get("use_vllm"), keys.get("vllm_mode")
    if use is not None and keys.flag("use_vllm"):
        if mode.written() == "server" if mode is not None else not release.colocated:
            return ()
        reason = "vLLM takes vllm_gpu_memory_utilization of the same GPU, which is not counted"
        return (replace(at(mode or use, reason), unbounded=True),)
    place = _shown(keys, _GRPO) or keys.root
    reason = "keys and values of the completions being generated come on top at most"
    return (Unmodelled(reason=at(place, reason).reason, adds=cached),)


def _accuracy(keys: Keys, release: Release) -> tuple[Unmodelled, ...]:
    """Before 1.10 SFT copied the logits to count right tokens (``shift_logits`` in ``compute_loss``)."""
    if release.fused or keys.flag("use_liger_kernel", "use_liger"):
        return ()
    place = keys.get("max_seq_length", "torch_dtype") or keys.root
    reason = "TRL before 1.10 copies the logits to count how many tokens were right"
    return (Unmodelled(reason=f"{place.source.path}: {reason}", grows=("logits_and_loss",)),)
