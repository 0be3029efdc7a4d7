"""Settings of LLaMA-Factory that are refused, or that decide memory and are not simulated."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.llamafactory.vocabulary import OFF
from memplan.dialects.trainer import methods, pairs
from memplan.dialects.unmodelled import QUANTIZED, STATES, STEP, in_use, placed
from memplan.domain.errors import FieldError
from memplan.domain.workload import Unmodelled, Workload

STAGES = ("pt", "sft", "dpo", "kto", "rm", "ppo")
TUNED = ("lora", "oft", "freeze", "full")
PAIRED = ("dpo", "rm")
"""Stages whose batches hold two answers to each prompt."""

_EVERYTHING = (*STATES, *STEP)
_MEGATRON = Unmodelled(
    reason="Megatron's layers and states are not simulated: counted like a Trainer on one GPU",
    shrinks=_EVERYTHING,
    unbounded=True,
)
_MEGATRON_KEYS = (
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "expert_model_parallel_size",
    "use_mca",
)
_PPO = "the policy shares the GPU with its answers, a reference model, a reward model and a value head"
_OTHER_REFERENCE = Unmodelled(reason="the reference is another model, which is not counted", unbounded=True)
_ROTATED = Unmodelled(
    reason="rotations of blocks, and inputs rotated in fp32, are kept as well",
    grows=("activations", "temporaries"),
)
_ASFT = Unmodelled(
    reason="its loss keeps the reference's logits, log-probabilities of its own and the model's own loss",
    logits=8,
)
"""``asft_loss_func`` in train/trainer_utils.py: labels stay with the model, which makes its own loss too."""

_PROJECTED = "states of projected gradients are smaller than counted"
_OWN_LOSS = "its loss keeps log-probabilities of its own"
_TRAINED = ("gradients", "optimizer_state")
SETTINGS: dict[str, Unmodelled] = {
    "use_hyper_parallel": Unmodelled(
        reason="HyperParallel's sharding is not simulated", shrinks=_EVERYTHING, unbounded=True
    ),
    "use_kt": Unmodelled(
        reason="KTransformers computes experts on the CPU: counted as on the GPU",
        shrinks=_EVERYTHING,
        unbounded=True,
    ),
    "mixture_of_depths": Unmodelled(
        reason="counted are blocks that no token skips, without their routers", shrinks=STEP, unbounded=True
    ),
    "use_unsloth": Unmodelled(reason="Unsloth's kernels keep other activations than counted", shrinks=STEP),
    "use_galore": Unmodelled(reason=_PROJECTED, shrinks=_TRAINED, grows=("temporaries",)),
    "use_apollo": Unmodelled(reason=_PROJECTED, shrinks=_TRAINED, grows=("temporaries",)),
    "use_badam": Unmodelled(
        reason="one block at a time is trained; all are counted", shrinks=(*_TRAINED, *STEP)
    ),
    "use_adam_mini": Unmodelled(reason="Adam-mini keeps less than AdamW", shrinks=("optimizer_state",)),
    "use_llama_pro": Unmodelled(
        reason="only expanded blocks are trained; all are counted", shrinks=(*_TRAINED, *STEP)
    ),
    "shift_attn": Unmodelled(
        reason="attention over shifted groups is not simulated", grows=("temporaries", "activations")
    ),
    "upcast_layernorm": Unmodelled(
        reason="norms in fp32 are not simulated", grows=("temporaries", "activations")
    ),
    "upcast_lmhead_output": Unmodelled(reason="logits are made fp32 once more", logits=1),
    "use_dft_loss": Unmodelled(reason=_OWN_LOSS, logits=2),
    "use_eaft_loss": Unmodelled(reason=_OWN_LOSS, logits=2),
    "fp8": Unmodelled(reason="products in fp8 keep other copies than counted", shrinks=STEP, grows=STEP),
    "use_v1_kernels": Unmodelled(reason="fused kernels keep other activations than counted", shrinks=STEP),
    "compute_accuracy": Unmodelled(
        reason="predictions are kept during evaluation", grows=("logits_and_loss",)
    ),
    "use_asft_loss": _ASFT,
}
_FROZEN = Unmodelled(reason="only some layers are trained, in fp32; all are counted so", shrinks=_EVERYTHING)


def check(keys: Keys) -> None:
    """Stop at a stage or a way of tuning that LLaMA-Factory does not have.

    Raises:
        FieldError: at the key, with those that it has.
    """
    for key, words in (("stage", STAGES), ("finetuning_type", TUNED)):
        value = keys.get(key)
        if value is not None:
            value.choice(words)


def not_modelled(value: Value, reason: str) -> FieldError:
    """The refusal of a value."""
    return value.fail(
        f"{value.described()} is not modelled: {reason}",
        expected="training of a causal language model, or generation through transformers",
    )


def unmodelled(keys: Keys, run: Workload) -> tuple[Unmodelled, ...]:
    """What is in use, each with its place."""
    return (*in_use(keys, SETTINGS, OFF), *_tuned(keys), *_other_code(keys), *_staged(keys, run))


def _tuned(keys: Keys) -> Iterator[Unmodelled]:
    kind, method = keys.get("finetuning_type"), keys.get("quantization_method")
    if kind is not None and kind.word() in ("freeze", "oft"):
        yield placed(kind, _FROZEN if kind.word() == "freeze" else _ROTATED)
    if keys.get("quantization_bit") is not None and method is not None and not is_bitsandbytes(method):
        yield placed(method, QUANTIZED)


def is_bitsandbytes(method: Value) -> bool:
    """Whether ``quantization_method`` names the library whose quantization is simulated."""
    return method.written().lower() in ("bnb", "bitsandbytes")


def _other_code(keys: Keys) -> Iterator[Unmodelled]:
    value = keys.get(*_MEGATRON_KEYS)
    if value is not None and (value.key != "use_mca" or keys.flag("use_mca")):
        yield placed(value, _MEGATRON)


def _staged(keys: Keys, run: Workload) -> tuple[Unmodelled, ...]:
    """What preference training and its kin have on top.

    A reference is the model without its LoRA, or a second one (``create_ref_model`` in trainer_utils.py).
    """
    stage = keys.get("stage")
    word = "sft" if stage is None else stage.word()
    asft = keys.get("use_asft_loss")
    other = keys.get("ref_model")
    copied = other is None and (run.adapter is None or run.adapter.kind != "lora")
    found: tuple[Unmodelled, ...] = ()
    if stage is not None and word == "dpo":
        compared = keys.word("pref_loss") not in ("orpo", "simpo")
        found = pairs.gaps(stage, reference=compared and copied)
    elif stage is not None and word == "kto":
        found = methods.unpaired(stage, reference=copied)
    elif stage is not None and word == "rm":
        found = (methods.rewarded(stage, run),)
    elif stage is not None and word == "ppo":
        found = (methods.beyond(stage, _PPO),)
    elif asft is not None and keys.flag("use_asft_loss") and copied:
        found = (placed(asft, pairs.REFERENCE),)
    return found if other is None else (*found, placed(other, _OTHER_REFERENCE))
