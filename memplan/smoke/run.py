"""The training loop whose memory is traced: the one the simulator's ``step`` stands for."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from memplan.domain.trace import Phase
from memplan.domain.workload import Outputs, Workload
from memplan.simulator.step import MICRO_BATCHES
from memplan.smoke.labels import Labels
from memplan.smoke.model import TORCH
from memplan.smoke.recorder import Recorder

STEPS = 2
"""The first step makes the optimizer's states, the second one repeats for good."""


class Run:
    """One model in training."""

    def __init__(self, recorder: Recorder, workload: Workload, model: Any, labels: Labels) -> None:
        self.recorder = recorder
        self.workload = workload
        self.model = model
        self.labels = labels
        self.names = {id(parameter): name for parameter, _, name in labels.parameters()}
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = _optimizer(self.trained, workload)

    def train(self) -> None:
        """Two optimizer steps."""
        for _ in range(STEPS):
            self.recorder.trace.cycles.append(len(self.recorder.trace.events))
            self._step()

    def _step(self) -> None:
        trace = self.recorder.trace
        kept: Any = None
        for _ in range(min(self.workload.batch.accumulation, MICRO_BATCHES)):
            batch = self._batch()
            outputs = self._forward(batch)
            loss = outputs["loss"]
            kept = None if self.workload.outputs is Outputs.DROPPED else outputs
            del outputs
            self._backward(loss)
            if self.workload.outputs is not Outputs.KEPT:
                kept = None
            del loss
        trace.enter(Phase.OPTIMIZER)
        self._update()
        del kept

    def _batch(self) -> dict[str, Any]:
        self.recorder.trace.enter(Phase.FORWARD)
        self.recorder.component, self.recorder.scope[-1] = "activations", "inputs"
        found = inputs(self.labels.inner, self.workload)
        if self.workload.causal_mask:
            found["attention_mask"] = torch.empty_like(found["input_ids"])
        return found

    def _forward(self, batch: dict[str, Any]) -> Any:
        """Within an autocast region if the precision asks for one."""
        dtype = self.workload.precision.autocast
        with torch.autocast("cpu", dtype=TORCH[dtype]) if dtype else nullcontext():
            outputs = self.model(**batch)
        self.recorder.component = "activations"
        return outputs

    def _backward(self, loss: Any) -> None:
        recorder = self.recorder
        recorder.trace.enter(Phase.BACKWARD)
        recorder.in_backward, recorder.scope[-1] = True, "backward"
        torch.autograd.backward(loss)
        recorder.in_backward = False
        for parameter in self.trained:
            if parameter.grad is not None:
                recorder.relabel(parameter.grad, "gradients", self.names[id(parameter)], "grad")

    def _update(self) -> None:
        recorder = self.recorder
        recorder.component, recorder.scope[-1] = "temporaries", "optimizer"
        recorder.host_scalars = self.workload.optimizer.implementation != "fused"
        if self.workload.optimizer.clipping:
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        recorder.host_scalars = False
        for parameter, states in self.optimizer.state.items():
            for key, state in states.items():
                if isinstance(state, torch.Tensor):
                    recorder.relabel(state, "optimizer_state", self.names[id(parameter)], key)
        self.optimizer.zero_grad(set_to_none=self.workload.optimizer.set_to_none)


def inputs(model: Any, workload: Workload) -> dict[str, Any]:
    """A batch of the model's kind: tokens or pixels, labels for each token or for each example."""
    count, kind, settings = workload.batch.micro, type(model).__name__, model.config
    size = (count, workload.sequence.length)
    found = {}
    if kind.endswith("ForImageClassification"):
        found["pixel_values"] = torch.empty((count, settings.num_channels, *_sides(settings.image_size)))
    else:
        found["input_ids"] = torch.empty(size, dtype=torch.int64)
    each = kind.endswith(("ForImageClassification", "ForSequenceClassification"))
    found["labels"] = torch.empty(size[:1] if each else size, dtype=torch.int64)
    return found


def _sides(found: Any) -> tuple[int, ...]:
    return (found, found) if isinstance(found, int) else tuple(found)


def _optimizer(trained: list[Any], workload: Workload) -> Any:
    """PyTorch's own optimizers."""
    chosen = workload.optimizer
    classes = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    momentum = {"momentum": chosen.momentum} if chosen.name == "sgd" else {}
    foreach, fused = (chosen.implementation == name for name in ("foreach", "fused"))
    return classes[chosen.name](trained, lr=1e-3, foreach=foreach, fused=fused, **momentum)
