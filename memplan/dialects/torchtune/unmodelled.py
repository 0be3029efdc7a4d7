"""Settings of torchtune that decide memory and are not simulated: what each may shrink or enlarge."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.keys import Keys
from memplan.dialects.torchtune.recipe import Kind
from memplan.domain.workload import Unmodelled

_WEIGHTS = ("embeddings", "decoder_matrix", "blocks", "adapter")
_STATES = (*_WEIGHTS, "gradients", "optimizer_state")
_STEP = ("activations", "logits_and_loss", "temporaries")

SETTINGS = {
    "compile": Unmodelled(reason="compiled kernels keep other activations than counted", shrinks=_STEP),
    "optimizer_in_bwd": Unmodelled(
        reason="gradients are used and freed one by one: counted as all kept", shrinks=("gradients",)
    ),
    "fsdp_cpu_offload": Unmodelled(reason="states are counted as staying on the GPU", shrinks=_STATES),
    "tensor_parallel_dim": Unmodelled(
        reason="the model is counted whole on each GPU", shrinks=(*_STATES, *_STEP)
    ),
    "tensor_parallel_plan": Unmodelled(
        reason="the model is counted whole on each GPU", shrinks=(*_STATES, *_STEP)
    ),
    "context_parallel_dim": Unmodelled(
        reason="sequences are counted whole on each GPU", shrinks=_STEP, grows=("temporaries",)
    ),
    "enable_fp8_training": Unmodelled(
        reason="products in fp8 keep other activations than counted", shrinks=("activations",), grows=_STEP
    ),
    "dataset.packed": Unmodelled(
        reason="the mask of packed samples, or its blocks, is not counted", grows=("temporaries",)
    ),
    "quantizer": Unmodelled(
        reason="quantized copies of weights and activations are not counted", grows=("blocks", *_STEP)
    ),
    "early_exit_loss": Unmodelled(
        reason="logits of earlier layers are not counted",
        grows=("logits_and_loss", "logits_and_loss", *_STEP),
    ),
    "layer_dropout": Unmodelled(reason="dropped layers keep nothing", shrinks=("activations",)),
    "model.use_dora": Unmodelled(
        reason="the norms of decomposed weights are not counted in full",
        grows=("adapter", "gradients", "optimizer_state", "activations", "temporaries"),
    ),
    "custom_sharded_layers": Unmodelled(
        reason="embeddings and head are gathered apart from the rest", shrinks=("temporaries",)
    ),
}

LINEAR = "LinearCrossEntropyLoss"

_OFF = ("false", "1", "null", "none", "[]")

_LINEAR = Unmodelled(
    reason="logits are made piece by piece, and only of tokens that are trained on: counted for all of them",
    shrinks=("logits_and_loss",),
)
_NORMS = Unmodelled(
    reason="releases that have it keep less in their norms than 0.6, which is counted",
    shrinks=("activations",),
)
_PREFERENCE = Unmodelled(
    reason="each example is two sequences, and the model without adapters answers both again",
    grows=("activations", "temporaries", *("logits_and_loss",) * 3),
)
_REINFORCED = Unmodelled(
    reason="counted as supervised finetuning, without the models, answers and batches that come on top",
    unbounded=True,
)
_LIKELIHOOD = Unmodelled(
    reason="the tasks decide the lengths; log-probabilities are a second copy of the logits",
    shrinks=("activations", "logits_and_loss", "temporaries"),
    grows=("logits_and_loss",),
)


def unmodelled(keys: Keys, kind: Kind) -> tuple[Unmodelled, ...]:
    """The settings in use, each by its key.

    Lines are left out: they would change with every key that is inserted above, and with them the workload.
    """
    found = [
        _named(name, setting)
        for name, setting in SETTINGS.items()
        if (value := keys.get(name)) is not None and value.written().lower() not in _OFF
    ]
    if (keys.word("loss._component_") or "").endswith(LINEAR):
        found += [_named("loss", _LINEAR), _named(LINEAR, _NORMS)]
    if kind is Kind.PREFER:
        found.append(_named("loss", _PREFERENCE))
    if kind is Kind.REINFORCE:
        found.append(_named("reinforcement learning", _REINFORCED))
    if kind is Kind.EVALUATE:
        found.append(_named("tasks", _LIKELIHOOD))
    return tuple(found)


def teacher(weights: int) -> Unmodelled:
    """The model that is distilled: its weights, and its logits beside the student's."""
    grown = Unmodelled(
        reason="the teacher is not simulated: its weights and logits come on top",
        grows=("temporaries", *("logits_and_loss",) * 3),
        adds=weights,
    )
    return _named("teacher_model", grown)


def _named(name: str, setting: Unmodelled) -> Unmodelled:
    return replace(setting, reason=f"{name}: {setting.reason}")
