"""A model that one GPU holds whole: what the training step asks of it, for shardings to redefine."""

from __future__ import annotations

from typing import Protocol

from memplan.domain.workload import Workload
from memplan.simulator import autograd
from memplan.simulator.autograd import Leaf
from memplan.simulator.optimizer import Stepper
from memplan.simulator.tensor import Tape, Tensor


class Model(Protocol):
    """What a family gives the step: the leaves that train, and a loss."""

    leaves: list[Leaf]

    def inputs(self, tape: Tape, batch: int, /) -> tuple[Tensor, Tensor]:
        """Inputs and labels of a batch."""

    def logit_sides(self) -> tuple[int, ...]:
        """The sides of the logits of one example."""

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch."""


class Whole:
    """A model as it is. ``leaves`` are what the optimizer works on.

    ``settling`` is how many optimizer steps it takes until they repeat themselves, if gradients do not stay.
    """

    settling = 1

    def __init__(self, tape: Tape, workload: Workload, model: Model) -> None:
        self.tape = tape
        self.workload = workload
        self.model = model
        self.leaves = model.leaves

    def stepper(self) -> Stepper:
        """The optimizer, made once the model is loaded."""
        return Stepper(self.tape, self.workload.optimizer, self.leaves, self.workload.precision)

    def inputs(self, tape: Tape, batch: int) -> tuple[Tensor, Tensor]:
        """Inputs and labels of a batch."""
        return self.model.inputs(tape, batch)

    def logit_sides(self) -> tuple[int, ...]:
        """The sides of the logits of one example."""
        return self.model.logit_sides()

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch; gradients follow unless the tape says otherwise."""
        return self.model.loss(tokens, labels)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Run backward; ``last`` says that it is the optimizer step's last micro-batch."""
        del last
        autograd.backward(loss)

    def update(self, stepper: Stepper) -> None:
        """Step the optimizer and let go of the gradients."""
        stepper.step()
        stepper.zero_grad()
