"""Losses over classes as models without a causal mask take them: in the dtype of the logits."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import ops, shapes
from memplan.simulator.loss import log_softmax, nll_loss
from memplan.simulator.tensor import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``F.cross_entropy`` of logits (…, classes), viewed as rows: nobody casts them to fp32 but autocast."""
    rows = 1
    for side in logits.shape[:-1]:
        rows *= side
    flat = shapes.view(logits, (rows, logits.shape[-1]))
    if flat.tape.autocast is not None:
        flat = ops.to(flat, Dtype.FP32)
    return nll_loss(log_softmax(flat), labels)
