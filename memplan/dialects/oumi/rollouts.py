"""GRPO in oumi: TRL's trainer, or verl's with sections of its own.

Source: ``GrpoParams.to_hf_trainer_kwargs`` in src/oumi/core/configs/params/grpo_params.py, ``_create_config``
in src/oumi/core/trainers/verl_grpo_trainer.py (0.9): verl does not get the batch sizes of ``training``.
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.dialects.keys import Keys
from memplan.dialects.oumi.vocabulary import PAST, VERL
from memplan.dialects.trainer import pairs, rollouts
from memplan.dialects.unmodelled import STATES, STEP, placed
from memplan.domain.workload import Sequence, Unmodelled, Workload

KINDS = ("trl_grpo", "verl_grpo")
COMPLETION = 512
"""Tokens of a completion where nothing bounds them, in TRL and in verl."""

_OURS = "training.grpo"
_PROMPT = {"trl_grpo": (f"{_OURS}.max_prompt_length",), "verl_grpo": (f"{VERL}.data.max_prompt_length",)}
_COMPLETION = {
    "trl_grpo": (f"{_OURS}.max_completion_length",),
    "verl_grpo": (f"{VERL}.data.max_response_length", f"{_OURS}.max_completion_length"),
}
_SHARDED = Unmodelled(
    reason="counted as SFT on one GPU: verl's actor, reference and rollouts share the GPUs",
    shrinks=(*STATES, *STEP),
    unbounded=True,
)


def sequence(keys: Keys, kind: str) -> Sequence:
    """A prompt and a completion of the greatest lengths."""
    prompt, completion = keys.get(*_PROMPT[kind]), keys.get(*_COMPLETION[kind])
    usual = f"prompts of {rollouts.PROMPT} tokens, completions of {COMPLETION}"
    keys.note("sequence.length", completion or prompt, usual)
    if prompt is None or completion is None:
        keys.warnings.append(f"{keys.root.source.path}: lengths are not all bounded; counted are {usual}")
    return Sequence(
        length=(keys.whole(*_PROMPT[kind]) or rollouts.PROMPT)
        + (keys.whole(*_COMPLETION[kind]) or COMPLETION)
    )


def gaps(keys: Keys, kind: str, run: Workload) -> Iterator[Unmodelled]:
    """What generating, scoring and comparing completions adds."""
    place = keys.get("training.trainer_type") or keys.root
    if kind == "verl_grpo":
        yield placed(place, _SHARDED)
        return
    yield placed(place, pairs.SCORES)
    weight = keys.get(f"{PAST}.beta")
    if weight is not None and weight.written().strip("0.") and run.adapter is None:
        yield placed(weight, pairs.REFERENCE)
    engine, mode = keys.get(f"{_OURS}.use_vllm"), keys.get(f"{PAST}.vllm_mode", f"{_OURS}.vllm_mode")
    if engine is None or not keys.flag(f"{_OURS}.use_vllm"):
        yield placed(place, rollouts.cached(run))
    elif mode is None or mode.written() != "server":
        yield placed(mode or engine, rollouts.SHARED)
