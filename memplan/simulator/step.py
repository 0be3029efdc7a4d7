"""A training run in miniature: load, then optimizer steps until memory repeats itself."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Protocol

from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Outputs, Workload
from memplan.simulator.autograd import Leaf, backward
from memplan.simulator.evaluation import evaluate, matters
from memplan.simulator.optimizer import Stepper
from memplan.simulator.tensor import Tape, Tensor

MICRO_BATCHES = 2
"""With accumulation, the first micro-batch makes the gradients and all others are alike."""


class Model(Protocol):
    """What a family gives the step: the leaves that train, and a loss."""

    leaves: list[Leaf]

    def inputs(self, tape: Tape, batch: int, /) -> tuple[Tensor, Tensor]:
        """Inputs and labels of a batch."""

    def logit_sides(self) -> tuple[int, ...]:
        """The sides of the logits of one example."""

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch."""


def train(workload: Workload, build: Callable[[Tape], Model], capability: tuple[int, int]) -> Trace:
    """The trace of loading a model and training it until its steps repeat.

    One step is enough when gradients are freed between steps: what the first one makes for good is marked
    as made once. Gradients that stay make the second step differ from the first.

    ``capability`` is the GPU's compute capability. Garbage collection is off meanwhile:
    lifetimes must follow from references alone.
    """
    tape = Tape(capability, workload.framework)
    collecting = gc.isenabled()
    gc.disable()
    try:
        tape.trace.enter(Phase.LOAD)
        model = build(tape)
        tape.gradients = workload.precision.gradients
        trace = _steps(tape, workload, model)
    finally:
        if collecting:
            gc.enable()
    return trace


def _steps(tape: Tape, workload: Workload, model: Model) -> Trace:
    stepper = Stepper(tape, workload.optimizer, model.leaves, workload.precision)
    for _ in range(1 if workload.optimizer.set_to_none else 2):
        tape.trace.cycles.append(len(tape.trace.events))
        _step(tape, workload, model, stepper)
        if matters(workload):
            evaluate(tape, workload, model)
    return tape.trace.closed()


def _step(tape: Tape, workload: Workload, model: Model, stepper: Stepper) -> None:
    """One optimizer step.

    A loop that keeps ``outputs`` holds its loss and logits until it has the next ones, or until backward is
    over. The Hugging Face Trainer's ``training_step`` returns after each backward pass and keeps neither.
    """
    kept: tuple[Tensor, ...] = ()
    for _ in range(min(workload.batch.accumulation, MICRO_BATCHES)):
        batch = _batch(tape, model, workload.batch.micro)
        loss, logits = _forward(tape, workload, model, *batch)
        kept = () if workload.outputs is Outputs.DROPPED else (logits, loss)
        del logits
        tape.trace.enter(Phase.BACKWARD)
        backward(loss)
        if workload.outputs is not Outputs.KEPT:
            kept = ()
        del loss
    tape.trace.enter(Phase.OPTIMIZER)
    tape.component, tape.scope = "temporaries", "optimizer"
    stepper.step()
    stepper.zero_grad()
    del kept


def _batch(tape: Tape, model: Model, size: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels, alive until the next batch comes."""
    tape.trace.enter(Phase.FORWARD)
    tape.component, tape.scope = "activations", "inputs"
    return model.inputs(tape, size)


def _forward(
    tape: Tape, workload: Workload, model: Model, tokens: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss and logits, within an autocast region if the precision asks for one."""
    tape.autocast = workload.precision.autocast
    result = model.loss(tokens, labels)
    tape.autocast = None
    tape.casts.clear()
    return result
