"""What a method of TRL adds to a step that is not simulated, and how many bytes that may be."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.trainer import rollouts
from memplan.dialects.trainer.pairs import SCORES, WEIGHTS
from memplan.dialects.trl.methods import GRPO, GRPO_KEYS, PREFERENCE, PREFERENCE_KEYS, Method
from memplan.dialects.trl.releases import DROPPED, Release
from memplan.dialects.unmodelled import placed
from memplan.domain.workload import Unmodelled, Workload

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


def beyond(keys: Keys) -> tuple[Unmodelled, ...]:
    """Methods with models and batches that are not planned: said, and no verdict given."""
    found = [(keys.get(name), why) for name, why in _BEYOND.items()]
    task = keys.get("lora_task_type")
    if task is not None and task.written() == _CLASSIFIES:
        found.append((task, _BEYOND["center_rewards_coefficient"]))
    return tuple(
        placed(value, Unmodelled(reason=f"counted as SFT: {why}", unbounded=True))
        for value, why in found
        if value is not None
    )


def gaps(keys: Keys, found: Method, release: Release, run: Workload) -> tuple[Unmodelled, ...]:
    """What the method adds to a run that is simulated as supervised fine-tuning."""
    if found is PREFERENCE:
        place = keys.get("beta", *PREFERENCE_KEYS) or keys.root
        which = "DPO keeps a copy of the model as reference, which ORPO, CPO and SimPO do not"
        return (*_reference(keys, place, which, release, run), *_scores(place, release))
    if found is GRPO:
        place = keys.get(*GRPO_KEYS) or keys.root
        which = "GRPO keeps a copy of the model as reference where beta is not 0"
        reference = _reference(keys, place, which, release, run) if _weighs(keys, release) else ()
        return (*reference, *_scores(place, release), *_generation(keys, place, release, run))
    return _accuracy(keys, release)


def _weighs(keys: Keys, release: Release) -> bool:
    """Whether GRPO's loss has a term for the distance to the reference model."""
    value = keys.get("beta")
    return release.beta > 0 if value is None else value.written().strip("0.") != ""


def _reference(
    keys: Keys, place: Value, which: str, release: Release, run: Workload
) -> tuple[Unmodelled, ...]:
    """The copy of the weights that log-probabilities are compared with, and its own pass."""
    if run.adapter is not None or keys.flag("precompute_ref_log_probs"):
        return ()
    reason = f"{which}; its weights and its pass are not in the point estimate"
    copy = Unmodelled(reason=reason, grows=(*WEIGHTS, "temporaries"), logits=0 if release.fused else 1)
    return (placed(place, copy),)


def _scores(place: Value, release: Release) -> tuple[Unmodelled, ...]:
    """Older trainers take log-probabilities from whole logits in code of their own."""
    return () if release.fused else (placed(place, SCORES),)


def _generation(keys: Keys, place: Value, release: Release, run: Workload) -> tuple[Unmodelled, ...]:
    """Keys and values of completions being generated; vLLM has them elsewhere, or a share of this GPU."""
    use, mode = keys.get("use_vllm"), keys.get("vllm_mode")
    if use is not None and keys.flag("use_vllm"):
        if mode.written() == "server" if mode is not None else not release.colocated:
            return ()
        return (placed(mode or use, rollouts.SHARED),)
    return (placed(place, rollouts.cached(run)),)


def _accuracy(keys: Keys, release: Release) -> tuple[Unmodelled, ...]:
    """Before 1.10 SFT copied the logits to count right tokens (``shift_logits`` in ``compute_loss``)."""
    if release.fused or keys.flag("use_liger_kernel", "use_liger"):
        return ()
    reason = "TRL before 1.10 copies the logits to count how many tokens were right"
    return (placed(keys.get(*DROPPED) or keys.root, Unmodelled(reason=reason, logits=1)),)
