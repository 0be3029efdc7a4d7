"""Settings of torchtitan that decide memory and are not simulated: what each may shrink or enlarge."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.dialects.keys import Keys
from memplan.dialects.unmodelled import STATES, STEP, placed
from memplan.documents.tree import ScalarNode, SequenceNode
from memplan.domain.workload import Unmodelled

_DEGREES = {
    "tensor": Unmodelled(
        reason="layers are counted whole on each GPU", shrinks=(*STATES, *STEP), grows=("temporaries",)
    ),
    "pipeline": Unmodelled(
        reason="all blocks are counted on each GPU, for one micro-batch at a time",
        shrinks=STATES,
        grows=("activations",),
    ),
    "context": Unmodelled(
        reason="sequences are counted whole on each GPU", shrinks=STEP, grows=("temporaries",)
    ),
    "expert": Unmodelled(
        reason="all experts are counted on each GPU", shrinks=STATES, grows=("temporaries",)
    ),
}
_SWITCHES = {
    "training.enable_cpu_offload": Unmodelled(
        reason="parameters, gradients and optimizer states are counted on the GPU", shrinks=STATES
    ),
    "optimizer.early_step_in_backward": Unmodelled(
        reason="gradients are counted to the end of backward", shrinks=("gradients",)
    ),
    "validation.enable": Unmodelled(
        reason="validation is not counted: it may need more than a training step",
        grows=("logits_and_loss",),
    ),
}
_CODE = Unmodelled(
    reason="torchtitan's own model code is counted as transformers writes it: its norms keep less, its "
    "rotary positions are complex numbers in fp32",
    shrinks=("activations",),
    grows=("temporaries",),
)
_FLOAT8 = Unmodelled(
    reason="products are counted in the dtype they would have without the converter",
    shrinks=("activations",),
    grows=("temporaries",),
)
_COMPILED = {
    "model": Unmodelled(
        reason="compiled kernels keep other activations than counted", shrinks=("activations",)
    ),
    "loss": Unmodelled(reason="the compiled loss may keep less than counted", shrinks=("logits_and_loss",)),
}
_OPERATORS = Unmodelled(
    reason="what is kept is chosen by operator: counted as everything", shrinks=("activations",)
)


def unmodelled(keys: Keys) -> tuple[Unmodelled, ...]:
    """What is in use, each with its place."""
    return (_CODE, *_degrees(keys), *_switches(keys), *_converters(keys), *_compiled(keys), *_chosen(keys))


def _degrees(keys: Keys) -> Iterator[Unmodelled]:
    for name, setting in _DEGREES.items():
        value = keys.get(f"parallelism.{name}_parallel_degree")
        if value is not None and value.whole() > 1:
            yield placed(value, setting)


def _switches(keys: Keys) -> Iterator[Unmodelled]:
    for name, setting in _SWITCHES.items():
        value = keys.get(name)
        if value is not None and value.flag():
            yield placed(value, setting)


def _converters(keys: Keys) -> Iterator[Unmodelled]:
    value = keys.get("model.converters")
    if value is not None and isinstance(value.node, SequenceNode) and value.node.items:
        yield placed(value, _FLOAT8)


def _compiled(keys: Keys) -> Iterator[Unmodelled]:
    """Both the model and the loss unless ``compile.components`` says otherwise."""
    if not keys.flag("compile.enable"):
        return
    enabled, listed = keys.get("compile.enable"), keys.get("compile.components")
    assert enabled is not None
    names = tuple(_COMPILED) if listed is None else tuple(item.choice(_COMPILED) for item in listed.items())
    for name in names:
        yield placed(listed or enabled, _COMPILED[name])


def _chosen(keys: Keys) -> Iterator[Unmodelled]:
    mode, option = (
        keys.get("activation_checkpoint.mode"),
        keys.get("activation_checkpoint.selective_ac_option"),
    )
    budget = mode is not None and mode.written() == "memory_budget"
    selective = mode is None or mode.written() == "selective"
    by_operator = selective and option is not None and option.written() == "op"
    found = mode if budget else option if by_operator else None
    if found is not None and isinstance(found.node, ScalarNode):
        yield placed(found, _OPERATORS)
