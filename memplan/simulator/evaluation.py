"""An evaluation between optimizer steps, as ``Trainer.evaluation_loop`` of transformers runs it (5.23).

Source: ``evaluation_loop`` and ``prediction_step`` in src/transformers/trainer.py, ``nested_concat`` in
trainer_pt_utils.py. Shapes: token ids (B, S), logits (B, S, V).
"""

from __future__ import annotations

from typing import Protocol

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase
from memplan.domain.workload import Workload
from memplan.simulator import ops
from memplan.simulator.tensor import Tape, Tensor


class Model(Protocol):
    """What evaluation asks of a family."""

    def inputs(self, tape: Tape, batch: int, /) -> tuple[Tensor, Tensor]:
        """Inputs and labels of a batch."""

    def logit_sides(self) -> tuple[int, ...]:
        """The sides of the logits of one example."""

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch."""


def matters(workload: Workload) -> bool:
    """Whether evaluation can hold more than training.

    A batch that is no larger than a training batch makes no tensor that training does not make as well, but
    for logits where training has none.
    """
    asked = workload.evaluation
    if asked is None:
        return False
    return asked.batch > workload.batch.micro or asked.kept > 0 or asked.makes_logits(workload.loss)


def evaluate(tape: Tape, workload: Workload, model: Model) -> None:
    """The batch that takes most: the last of those whose logits are ``kept`` until they go to the host.

    Under autocast accelerate makes them fp32 first (``convert_outputs_to_fp32`` in its utils/operations.py).

    The loop's variables hold the newest logits beside what they were joined to, until the next are there.
    Without metrics to compute, logits are dropped with their batch (``prediction_loss_only``).
    """
    asked = workload.evaluation
    assert asked is not None
    tape.trace.enter(Phase.FORWARD)
    tape.grad_enabled = tape.training = False
    batch = asked.batch or workload.batch.micro
    held = _kept(tape, workload, model, batch * (asked.kept - 1)) if asked.kept > 1 else None
    # Of two batches the first is not joined to any: what is held is what it gave.
    newest = _kept(tape, workload, model, batch) if asked.kept > 2 else None
    tape.component, tape.scope = "activations", "inputs"
    tokens, labels = model.inputs(tape, batch)
    tape.autocast = workload.precision.autocast
    loss, logits = model.loss(tokens, labels)
    tape.autocast = None
    tape.casts.clear()
    if asked.kept and workload.precision.autocast is not None:
        logits = ops.to(logits, Dtype.FP32)
    del newest
    if held is not None:
        held = _kept(tape, workload, model, batch * asked.kept)
    del loss, logits, held
    tape.grad_enabled = tape.training = True


def _kept(tape: Tape, workload: Workload, model: Model, sequences: int) -> Tensor:
    """Logits of several batches, joined by ``torch.cat`` while the old ones are still there."""
    tape.component, tape.scope = "logits_and_loss", "predictions"
    dtype = Dtype.FP32 if workload.precision.autocast is not None else workload.precision.params
    return tape.empty((sequences, *model.logit_sides()), dtype, "cat")
