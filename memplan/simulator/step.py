"""A training run in miniature: load, then optimizer steps until memory repeats itself."""

from __future__ import annotations

import gc
from collections.abc import Callable

from memplan.domain.host import ActivationOffload
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Outputs, Workload
from memplan.simulator.evaluation import evaluate, matters
from memplan.simulator.folding import Fold
from memplan.simulator.offload import Offload
from memplan.simulator.optimizer import Stepper
from memplan.simulator.sharding import Model, Whole, wrap
from memplan.simulator.tensor import Tape, Tensor

__all__ = ["MICRO_BATCHES", "Model", "train"]

MICRO_BATCHES = 2
"""With accumulation, the first micro-batch makes the gradients and all others are alike."""


def train(
    workload: Workload,
    build: Callable[[Tape], Model],
    capability: tuple[int, int],
    fold: Fold | None = None,
) -> Trace:
    """The trace of loading a model and training it until its steps repeat.

    One step is enough when gradients are freed between steps: what the first one makes for good is marked
    as made once. Gradients that stay make the second step differ from the first.

    ``capability`` is the GPU's compute capability; ``fold`` picks the layers to simulate, if not all. Garbage
    collection is off meanwhile: lifetimes must follow from references alone.
    """
    tape = Tape(capability, workload.framework, fold)
    collecting = gc.isenabled()
    gc.disable()
    try:
        tape.trace.enter(Phase.LOAD)
        model = wrap(tape, workload, build(tape))
        tape.gradients = workload.precision.gradients
        if workload.activation_offload is not ActivationOffload.NONE:
            tape.offload = Offload(tape, workload.activation_offload)
        trace = _steps(tape, workload, model)
    finally:
        if collecting:
            gc.enable()
    return trace


def _steps(tape: Tape, workload: Workload, model: Whole) -> Trace:
    stepper = model.stepper()
    for _ in range(model.settling if workload.optimizer.set_to_none else 2):
        tape.trace.cycles.append(len(tape.trace.events))
        _step(tape, workload, model, stepper)
        if matters(workload):
            evaluate(tape, workload, model)
    return tape.trace.closed()


def _step(tape: Tape, workload: Workload, model: Whole, stepper: Stepper) -> None:
    """One optimizer step.

    A loop that keeps ``outputs`` holds its loss and logits until it has the next ones, or until backward is
    over. The Hugging Face Trainer's ``training_step`` returns after each backward pass and keeps neither.
    """
    kept: tuple[Tensor, ...] = ()
    count = min(workload.batch.accumulation, MICRO_BATCHES)
    for index in range(count):
        batch = _batch(tape, model, workload.batch.micro)
        loss, logits = _forward(tape, workload, model, *batch)
        kept = () if workload.outputs is Outputs.DROPPED else (logits, loss)
        del logits
        tape.trace.enter(Phase.BACKWARD)
        model.backward(loss, last=index == count - 1)
        if workload.outputs is not Outputs.KEPT:
            kept = ()
        del loss
    tape.trace.enter(Phase.OPTIMIZER)
    tape.component, tape.scope = "temporaries", "optimizer"
    model.update(stepper)
    del kept


def _batch(tape: Tape, model: Whole, size: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels, alive until the next batch comes."""
    tape.trace.enter(Phase.FORWARD)
    tape.component, tape.scope = "activations", "inputs"
    return model.inputs(tape, size)


def _forward(
    tape: Tape, workload: Workload, model: Whole, tokens: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss and logits, within an autocast region if the precision asks for one."""
    tape.autocast = workload.precision.autocast
    result = model.loss(tokens, labels)
    tape.autocast = None
    tape.casts.clear()
    return result
