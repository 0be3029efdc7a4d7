"""The language-model loss: where the vocabulary-wide tensors come from."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import liger, ops, shapes
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def _log_softmax(node: Node, _: Tensor) -> Gradients:
    output = node.saved_tensor()
    return (ops.like(output, "log_softmax_backward"),)


def log_softmax(x: Tensor) -> Tensor:
    """``F.log_softmax(x, dim=1)``: saves its result."""
    node = begin(_log_softmax, x)
    result = finish(node, ops.like(x, "log_softmax"))
    if node is not None:
        node.save(x.tape, result.detach())
    return result


def _nll_loss(node: Node, _: Tensor) -> Gradients:
    log_probabilities = node.unpack()[0]
    assert log_probabilities is not None
    return (ops.like(log_probabilities, "nll_loss_backward"),)


def nll_loss(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """``F.nll_loss``: a scalar; saves the log-probabilities, the labels and the total weight."""
    tape = log_probabilities.tape
    node = begin(_nll_loss, log_probabilities)
    result = finish(node, tape.empty((), Dtype.FP32, "nll_loss"))
    total = tape.empty((), Dtype.FP32, "total_weight")
    if node is not None:
        node.save(tape, log_probabilities, labels, total)
    return result


def causal_lm_loss(logits: Tensor, labels: Tensor, *, in_place: bool = False) -> Tensor:
    """transformers' ``ForCausalLMLoss``: logits (B, S, V) are upcast to fp32, labels shifted by one.

    Before 4.49 the logits were shifted instead, into a copy (``shift_logits``).
    With ``in_place`` the cross-entropy is Liger's.
    Source: transformers src/transformers/loss/loss_utils.py, ``ForCausalLMLoss``.
    """
    batch, length, vocabulary = logits.shape
    logits = ops.to(logits, Dtype.FP32)
    if logits.tape.framework.transformers_before(4, 49):
        labels = labels.tape.empty((batch, length - 1), Dtype.INT64, "contiguous")
        shifted_logits = ops.clone(shapes.narrow(logits, 1, length - 1))
        flat = shapes.view(shifted_logits, (batch * (length - 1), vocabulary))
        return _cross_entropy(flat, labels, in_place=in_place)
    labels = labels.tape.empty((batch, length + 1), Dtype.INT64, "pad")
    shifted = labels.tape.empty((batch, length), Dtype.INT64, "contiguous")
    logits = shapes.view(logits, (batch * length, vocabulary))
    return _cross_entropy(logits, shifted, in_place=in_place)


def _cross_entropy(logits: Tensor, labels: Tensor, *, in_place: bool) -> Tensor:
    return liger.cross_entropy(logits, labels) if in_place else nll_loss(log_softmax(logits), labels)
