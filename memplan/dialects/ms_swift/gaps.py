"""Settings of ms-swift that decide memory and are not simulated, and methods counted as SFT."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.dialects.keys import Keys
from memplan.dialects.trainer import methods, pairs, rollouts
from memplan.dialects.unmodelled import QUANTIZED, STATES, STEP, in_use, placed
from memplan.domain.workload import Unmodelled, Workload

METHODS = ("dpo", "orpo", "simpo", "cpo", "kto", "rm", "ppo", "grpo", "gkd")
"""``RLHFArguments`` in swift/arguments/rlhf_args.py."""

PAIRED = ("dpo", "orpo", "simpo", "cpo", "rm")
"""Methods whose batches hold two answers to each prompt."""

MEGATRON = (
    "micro_batch_size",
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "train.tensor_model_parallel_size",
)
_LAYERS = Unmodelled(
    reason="Megatron's layers and states are not simulated: counted like a Trainer on one GPU",
    shrinks=(*STATES, *STEP),
    unbounded=True,
)
_FURTHER = {
    "ppo": "reward and value models share the GPU, and answers are generated between steps",
    "gkd": "a teacher model shares the GPU, and answers are generated between steps",
}
_SCORED = Unmodelled(
    reason="counted with a vocabulary instead of a score",
    shrinks=("decoder_matrix", "gradients", "optimizer_state", "logits_and_loss"),
)
_EMBEDDED = Unmodelled(
    reason="counted as language modelling of one text a row, and there are several", unbounded=True
)
_OTHER_REFERENCE = Unmodelled(reason="the reference is another model, which is not counted", unbounded=True)
_OTHER_TUNER = Unmodelled(reason="of tuners LoRA is simulated, and counted", unbounded=True)
_TRAINED = ("gradients", "optimizer_state")
_FROZEN = Unmodelled(
    reason="frozen parameters are counted as trained", shrinks=(*_TRAINED, "activations", "temporaries")
)
_OWN_LOSS = Unmodelled(reason="its loss keeps log-probabilities of its own", logits=1)
_SETTINGS = {
    "freeze_parameters": _FROZEN,
    "freeze_parameters_regex": _FROZEN,
    "freeze_parameters_ratio": _FROZEN,
    "use_galore": Unmodelled(
        reason="states of projected gradients are smaller than counted",
        shrinks=_TRAINED,
        grows=("temporaries",),
    ),
    "lisa_activated_layers": Unmodelled(
        reason="some layers at a time are trained; all are counted", shrinks=(*_TRAINED, *STEP)
    ),
    "sequence_parallel_size": Unmodelled(
        reason="sequences are counted whole on each GPU", shrinks=STEP, grows=("temporaries",)
    ),
    "deepspeed_autotp_size": Unmodelled(
        reason="the model is counted whole on each GPU", shrinks=(*STATES, *STEP), grows=("temporaries",)
    ),
    "enable_dft_loss": _OWN_LOSS,
    "enable_channel_loss": _OWN_LOSS,
    "loss_scale": Unmodelled(reason="a loss per token is kept", logits=1),
    "optimizer": Unmodelled(
        reason="an optimizer of ms-swift's own is counted as optim", shrinks=("optimizer_state",)
    ),
}
_OFF = ("false", "none", "null", "default", "0", "0.0", "1")


def check(keys: Keys) -> None:
    """Stop at a method that ms-swift does not have.

    Raises:
        FieldError: at ``rlhf_type``, with those that it has.
    """
    method = keys.get("rlhf_type")
    if method is not None:
        method.choice(METHODS)


def unmodelled(keys: Keys, run: Workload) -> Iterator[Unmodelled]:
    """What is in use, each with its place."""
    yield from in_use(keys, _SETTINGS, _OFF)
    for names, usual, setting in (
        (MEGATRON, (), _LAYERS),
        (("quant_method",), ("bnb",), QUANTIZED),
        (("tuner_type", "train_type"), ("lora", "full"), _OTHER_TUNER),
        (("ref_model",), (), _OTHER_REFERENCE),
    ):
        value = keys.get(*names)
        if value is not None and value.written() not in usual:
            yield placed(value, setting)
    yield from _kernels(keys)
    yield from _headed(keys)
    yield from _compared(keys, run)


def _kernels(keys: Keys) -> Iterator[Unmodelled]:
    backend = keys.get("tuner_backend")
    if backend is not None and backend.written() == "unsloth":
        reason = "Unsloth's kernels keep other activations than counted"
        yield placed(backend, Unmodelled(reason=reason, shrinks=STEP))


def _headed(keys: Keys) -> Iterator[Unmodelled]:
    task = keys.get("task_type")
    if task is not None and task.written() not in ("causal_lm", "None"):
        yield placed(task, _SCORED if task.written() == "seq_cls" else _EMBEDDED)


def _compared(keys: Keys, run: Workload) -> Iterator[Unmodelled]:
    """What preference training and its kin have on top.

    The reference is the model without its adapter, or a copy (``__post_init__`` of ``RLHFArguments``).
    """
    method = keys.get("rlhf_type")
    if method is None:
        return
    word = method.word()
    copied = run.adapter is None and keys.get("ref_model") is None
    if word in _FURTHER:
        yield methods.beyond(method, _FURTHER[word])
    elif word == "rm":
        yield placed(method, _SCORED)
    elif word == "kto":
        yield from methods.unpaired(method, reference=copied)
    elif word == "grpo":
        weight = keys.get("beta")
        free = weight is not None and not weight.written().strip("0.")
        yield from pairs.gaps(method, reference=copied and not free)
        yield from _generated(keys, run)
    else:
        yield from pairs.gaps(method, reference=copied and word == "dpo")


def _generated(keys: Keys, run: Workload) -> Iterator[Unmodelled]:
    """Completions of GRPO: by vLLM, on this GPU unless it is a server, or by the model itself."""
    method, engine, mode = keys.get("rlhf_type"), keys.get("use_vllm"), keys.get("vllm_mode")
    if engine is None or not keys.flag("use_vllm"):
        yield placed(method or keys.root, rollouts.cached(run))
    elif mode is None or mode.written() != "server":
        yield placed(mode or engine, rollouts.SHARED)
