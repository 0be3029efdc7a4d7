"""The training loop that is run for real or traced: the one the simulator's ``step`` stands for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from memplan.domain.trace import Phase
from memplan.domain.workload import Evaluation, Outputs, Workload
from memplan.simulator.step import MICRO_BATCHES
from memplan.smoke.batches import inputs
from memplan.smoke.cuda import TORCH
from memplan.smoke.evaluating import batches_of, evaluate
from memplan.smoke.labels import Labels
from memplan.smoke.meter import Meter, Named
from memplan.smoke.optimizers import optimizer

STEPS = 2
"""The first step makes the optimizer's states, the second one repeats for good."""


class Training:
    """One model in training; ``meter`` is told of every phase."""

    def __init__(self, meter: Meter, workload: Workload, labels: Labels) -> None:
        self.meter = meter
        self.workload = workload
        self.labels = labels
        self.model = labels.model
        self.inner = labels.inner
        self.names = {id(parameter): name for parameter, _, name in labels.parameters()}
        self.trained = [parameter for parameter in labels.model.parameters() if parameter.requires_grad]
        self.optimizer = optimizer(self.trained, workload)
        self.place = next(labels.model.parameters()).device

    def train(self, steps: int) -> None:
        """So many optimizer steps."""
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        """One optimizer step; of many micro-batches two are run, since all others are like the second."""
        self.meter.begin_step()
        kept: Any = None
        count = min(self.workload.batch.accumulation, MICRO_BATCHES)
        for index in range(count):
            self.meter.enter(Phase.FORWARD)
            batch = self._batch(self.workload)
            with self._reducing(last=index == count - 1):
                outputs = self._forward(batch)
                loss = outputs["loss"]
                kept = None if self.workload.outputs is Outputs.DROPPED else outputs
                del outputs
                self._backward(loss)
            if self.workload.outputs is not Outputs.KEPT:
                kept = None
            del loss
        self._update()
        del kept
        if self.workload.evaluation is not None:
            self._evaluate(self.workload.evaluation)

    def _reducing(self, *, last: bool) -> AbstractContextManager[object]:
        """Around each micro-batch, for runs whose processes share what the ``last`` one completes."""
        del last
        return nullcontext()

    def _batch(self, workload: Workload) -> dict[str, Any]:
        """Random data, where the model is."""
        return {name: tensor.to(self.place) for name, tensor in inputs(self.inner, workload).items()}

    def _forward(self, batch: dict[str, Any]) -> Any:
        """Within an autocast region if the precision asks for one."""
        dtype = self.workload.precision.autocast
        with torch.autocast(self.place.type, dtype=TORCH[dtype]) if dtype else nullcontext():
            outputs = self.model(**batch)
        self.meter.leave(Phase.FORWARD)
        return outputs

    def _backward(self, loss: Any) -> None:
        self.meter.enter(Phase.BACKWARD)
        torch.autograd.backward(loss)
        self.meter.leave(Phase.BACKWARD)
        self.meter.name(self._gradients())

    def _update(self) -> None:
        self.meter.enter(Phase.OPTIMIZER)
        if self.workload.optimizer.clipping:
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.meter.leave(Phase.OPTIMIZER)
        self.meter.name(self.states())
        self.optimizer.zero_grad(set_to_none=self.workload.optimizer.set_to_none)

    def _evaluate(self, asked: Evaluation) -> None:
        size = batches_of(self.workload, asked)
        evaluate(
            self.model,
            self.meter,
            asked,
            lambda: self._batch(size),
            self._forward,
            autocast=self.workload.precision.autocast is not None,
        )

    def _gradients(self) -> Iterator[Named]:
        for parameter in self.trained:
            if parameter.grad is not None:
                yield parameter.grad, "gradients", self.names[id(parameter)], "grad"

    def states(self) -> Iterator[Named]:
        """The optimizer's tensors."""
        for parameter, states in self.optimizer.state.items():
            for key, state in states.items():
                if isinstance(state, torch.Tensor):
                    yield state, "optimizer_state", self.names[id(parameter)], key
