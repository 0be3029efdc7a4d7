"""Settings of LLaMA-Factory that are refused, or that decide memory and are not simulated."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.llamafactory.vocabulary import OFF
from memplan.dialects.trainer.losses import at
from memplan.dialects.trainer.unmodelled import STATES, STEP
from memplan.domain.errors import FieldError
from memplan.domain.workload import Unmodelled

STAGES = {
    "rm": "a reward model has a value head and is trained on pairs",
    "ppo": "the policy shares the GPU with a reward model and a value head",
    "kto": "every step runs two batches, also through a reference model",
}
_MEGATRON = "it trains with Megatron's layers, which are not simulated"
REFUSED = {
    "tensor_model_parallel_size": _MEGATRON,
    "pipeline_model_parallel_size": _MEGATRON,
    "expert_model_parallel_size": _MEGATRON,
    "use_mca": _MEGATRON,
    "use_hyper_parallel": "HyperParallel's sharding is not simulated",
    "use_kt": "KTransformers computes experts on the CPU, which is not simulated",
    "mixture_of_depths": "blocks that tokens skip are not simulated",
    "use_asft_loss": "every batch goes through a reference model as well",
}

_PROJECTED = "states of projected gradients are smaller than counted"
_OWN_LOSS = "its loss keeps log-probabilities of its own"
_TRAINED = ("gradients", "optimizer_state")
SETTINGS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "use_unsloth": ("Unsloth's kernels keep other activations than counted", STEP, ()),
    "use_galore": (_PROJECTED, _TRAINED, ("temporaries",)),
    "use_apollo": (_PROJECTED, _TRAINED, ("temporaries",)),
    "use_badam": ("one block at a time is trained; all are counted", (*_TRAINED, *STEP), ()),
    "use_adam_mini": ("Adam-mini keeps less than AdamW", ("optimizer_state",), ()),
    "use_llama_pro": ("only expanded blocks are trained; all are counted", (*_TRAINED, *STEP), ()),
    "shift_attn": ("attention over shifted groups is not simulated", (), ("temporaries", "activations")),
    "upcast_layernorm": ("norms in fp32 are not simulated", (), ("temporaries", "activations")),
    "upcast_lmhead_output": ("logits are made fp32 once more", (), ("logits_and_loss",)),
    "use_dft_loss": (_OWN_LOSS, (), ("logits_and_loss",)),
    "use_eaft_loss": (_OWN_LOSS, (), ("logits_and_loss", "logits_and_loss")),
    "fp8": ("products in fp8 keep other copies than counted", STEP, STEP),
    "use_v1_kernels": ("fused kernels keep other activations than counted", STEP, ()),
    "compute_accuracy": ("predictions are kept during evaluation", (), ("logits_and_loss",)),
}
_FROZEN = Unmodelled(
    reason="only some layers are trained, in fp32; all are counted so",
    shrinks=(*STATES, *STEP),
)


def refuse(keys: Keys) -> None:
    """Stop at what would make the answer wrong.

    Raises:
        FieldError: at the key that asks for it, with the reason.
    """
    stage = keys.get("stage")
    if stage is not None and stage.choice(("pt", "sft", "dpo", *STAGES)) in STAGES:
        raise not_modelled(stage, STAGES[stage.word()])
    for key, reason in REFUSED.items():
        value = keys.get(key)
        if value is not None and (key.endswith("_size") or value.written().lower() not in OFF):
            raise not_modelled(value, reason)
    kind = keys.get("finetuning_type")
    if kind is not None and kind.choice(("lora", "oft", "freeze", "full")) == "oft":
        raise not_modelled(kind, "orthogonal matrices are not simulated")


def not_modelled(value: Value, reason: str) -> FieldError:
    """The refusal of a value."""
    return value.fail(
        f"{value.described()} is not modelled: {reason}",
        expected="stage pt, sft or dpo of a causal language model, with LoRA or of all weights",
    )


def unmodelled(keys: Keys) -> tuple[Unmodelled, ...]:
    """The settings in use, each with its place."""
    found = []
    for key, (reason, shrinks, grows) in SETTINGS.items():
        value = keys.get(key)
        if value is not None and value.written().lower() not in OFF:
            found.append(at(value, reason, shrinks=shrinks, grows=grows))
    kind = keys.get("finetuning_type")
    if kind is not None and kind.word() == "freeze":
        found.append(at(kind, _FROZEN.reason, shrinks=_FROZEN.shrinks))
    return tuple(found)
