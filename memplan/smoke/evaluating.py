"""An evaluation between optimizer steps: batches without gradients, as transformers' Trainer makes them.

Logits that metrics want stay where they are until the last batch, joined with those before by the Trainer's
own container (``evaluation_loop`` in src/transformers/trainer.py, 5.23); the newest stay beside them until
the next are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from memplan.domain.trace import Phase
from memplan.domain.workload import Evaluation, Workload
from memplan.smoke.meter import Meter, Named

Forward = Callable[[dict[str, Any]], Any]
"""Calls a model with a batch, under autocast if that is asked for."""


def batches_of(workload: Workload, asked: Evaluation) -> Workload:
    """The workload with the micro-batch of its evaluation."""
    batch = replace(workload.batch, micro=asked.batch or workload.batch.micro)
    return replace(workload, batch=batch)


def evaluate(
    model: Any,
    meter: Meter,
    asked: Evaluation,
    batch: Callable[[], dict[str, Any]],
    forward: Forward,
    *,
    autocast: bool,
) -> None:
    """Run as many batches as have their logits kept, or one, and forget what they gave.

    Under ``autocast`` accelerate hands on what the model returns in fp32 (``convert_outputs_to_fp32``).
    """
    from transformers.trainer_pt_utils import EvalLoopContainer

    found = EvalLoopContainer(True)
    newest: Any = None
    model.eval()
    for _ in range(max(asked.kept, 1)):
        meter.enter(Phase.FORWARD)
        with torch.no_grad():
            outputs = forward(batch())
            made = _logits(outputs, autocast=autocast) if asked.kept else None
            del outputs
            # As the Trainer's variable: what it held goes when the next is there.
            newest = made
            if newest is not None:
                found.add(newest)
                meter.name(_predictions(newest, found.tensors))
            del made
    model.train()


def _logits(outputs: Any, *, autocast: bool) -> Any:
    logits = outputs["logits"].detach()
    return logits.float() if autocast else logits


def _predictions(*tensors: Any) -> Iterator[Named]:
    for tensor in tensors:
        yield tensor, "logits_and_loss", "predictions", "cat"
