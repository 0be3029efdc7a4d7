"""What ms-swift does that is refused, and settings that decide memory and are not simulated."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.trainer.losses import at
from memplan.dialects.trainer.unmodelled import STEP
from memplan.domain.errors import FieldError
from memplan.domain.workload import Unmodelled

PAIRS = ("dpo", "orpo", "simpo", "cpo")
_MEGATRON = "it trains with Megatron's layers, which are not simulated"
_REFUSED_METHODS = {
    "kto": "every step also runs mismatched completions through a reference model",
    "rm": "a reward model ends in one score a sequence, not in a vocabulary",
    "ppo": "reward and value models share the GPU",
    "grpo": "completions are generated between steps, mostly by an engine that shares the GPU",
    "gkd": "a teacher model shares the GPU",
}
_REFUSED = {
    "micro_batch_size": _MEGATRON,
    "tensor_model_parallel_size": _MEGATRON,
    "pipeline_model_parallel_size": _MEGATRON,
    "deepspeed_autotp_size": "DeepSpeed's tensor parallelism is not simulated",
    "ref_model": "a reference that is another model",
}
_TRAINED = ("gradients", "optimizer_state")
_FROZEN = ("frozen parameters are counted as trained", (*_TRAINED, "activations", "temporaries"), ())
_SETTINGS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "freeze_parameters": _FROZEN,
    "freeze_parameters_regex": _FROZEN,
    "freeze_parameters_ratio": _FROZEN,
    "use_galore": ("states of projected gradients are smaller than counted", _TRAINED, ("temporaries",)),
    "lisa_activated_layers": ("some layers at a time are trained; all are counted", (*_TRAINED, *STEP), ()),
    "sequence_parallel_size": ("sequences are counted whole on each GPU", STEP, ("temporaries",)),
    "enable_dft_loss": ("its loss keeps log-probabilities of its own", (), ("logits_and_loss",)),
    "enable_channel_loss": ("its loss keeps log-probabilities of its own", (), ("logits_and_loss",)),
    "loss_scale": ("a loss per token is kept", (), ("logits_and_loss",)),
    "optimizer": ("an optimizer of ms-swift's own is counted as optim", ("optimizer_state",), ()),
}
_OFF = ("false", "none", "null", "default", "0", "0.0", "1")


def refuse(keys: Keys) -> None:
    """Stop at what would make the answer wrong.

    Raises:
        FieldError: at the key that asks for it, with the reason.
    """
    method = keys.get("rlhf_type")
    if method is not None and method.choice((*PAIRS, *_REFUSED_METHODS)) in _REFUSED_METHODS:
        raise not_modelled(method, _REFUSED_METHODS[method.word()])
    for key, reason in _REFUSED.items():
        value = keys.get(key)
        if value is not None:
            raise not_modelled(value, reason)
    task = keys.get("task_type")
    if task is not None and task.written() not in ("causal_lm", "None"):
        raise not_modelled(task, "of tasks causal language modelling is simulated")
    backend = keys.get("tuner_backend")
    if backend is not None and backend.written() == "unsloth":
        raise not_modelled(backend, "Unsloth's kernels are not simulated")


def not_modelled(value: Value, reason: str) -> FieldError:
    """The refusal of a value."""
    return value.fail(
        f"{value.described()} is not modelled: {reason}",
        expected="fine-tuning of a causal language model on answers or pairs, with LoRA or of all weights",
    )


def unmodelled(keys: Keys) -> tuple[Unmodelled, ...]:
    """The settings in use, each with its place."""
    found = []
    for key, (reason, shrinks, grows) in _SETTINGS.items():
        value = keys.get(key)
        if value is not None and value.written().lower() not in _OFF:
            found.append(at(value, reason, shrinks=shrinks, grows=grows))
    return tuple(found)
