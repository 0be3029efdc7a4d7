"""Losses that never hold all logits: Liger's fused linear cross-entropy and Apple's cut cross-entropy.

Shapes: hidden states (B, S, h), head (V, h); T = B·S tokens.
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import shapes
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.linear_chunks import chunks
from memplan.simulator.log_probs import log_probs_loss
from memplan.simulator.matmul import cast
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Parameter, Tensor

LOCK_ROWS = 128
LOCK_COLUMNS = 64


def fused_linear_loss(hidden_states: Tensor, head: Parameter, labels: Tensor) -> Tensor:
    """``LigerForCausalLMLoss``: gradients are made in the forward pass, a chunk of tokens after the other.

    The hidden states' gradient and, if it trains, the head's are there from then on, full size. When the head
    has the inputs' dtype and no other is cast to, one buffer serves all chunks (since 0.8.3).
    Source: ``fused_linear_cross_entropy_forward`` in Liger-Kernel (0.4 to 0.8.5)
    src/liger_kernel/ops/fused_linear_cross_entropy.py, ``LigerForCausalLMLoss`` in
    src/liger_kernel/transformers/model/loss_utils.py.
    """
    flat, shifted = _flattened(hidden_states, labels)
    loss = fused_linear(flat, head)
    del shifted
    return loss


def fused_linear(flat: Tensor, head: Parameter) -> Tensor:
    """``LigerFusedLinearCrossEntropyFunction`` of hidden states (T, h)."""
    tape = flat.tape

    def run(node: Node, _: Tensor) -> Gradients:
        of_input, of_head = node.unpack()
        return of_input, of_head

    node = begin(run, flat, head)
    of_input = tape.empty(flat.shape, flat.dtype, "grad_input")
    trains = node is not None and node.edges[1] is not None
    of_head = tape.empty(head.shape, head.dtype, "grad_weight") if trains else None
    tokens = flat.shape[0]
    losses = tape.empty((tokens,), Dtype.FP32, "loss_1d")
    counted = tape.empty((tokens,), Dtype.BOOL, "ne")
    tape.empty((tokens,), Dtype.INT64, "to")
    if tape.framework.liger_before(0, 5, 3):
        counted = tape.empty((), Dtype.INT64, "sum")
    chunks(flat, head, of_head)
    result = finish(node, tape.empty((), Dtype.FP32, "sum"))
    if node is not None:
        node.save(tape, of_input.detach(), of_head.detach() if of_head else None)
    del losses, counted
    return result


def _flattened(hidden_states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states as a matrix, and labels shifted by one."""
    batch, length, width = hidden_states.shape
    padded = labels.tape.empty((batch, length + 1), Dtype.INT64, "pad")
    shifted = labels.tape.empty((batch, length), Dtype.INT64, "contiguous")
    del padded
    return shapes.view(hidden_states, (batch * length, width)), shifted


def cut_loss(hidden_states: Tensor, head: Parameter, labels: Tensor) -> Tensor:
    """Cut cross-entropy: logits exist only within the kernels, forward and backward.

    Kept for backward: the inputs, the log-sum-exp, and the mean logit of each token of the vocabulary.
    Source: ``LinearCrossEntropyFunction`` in apple/ml-cross-entropy cut_cross_entropy/cce.py,
    ``cce_lse_forward_kernel`` and ``cce_backward_kernel`` beside it (25.1).
    """
    flat, shifted = _flattened(hidden_states, labels)
    tape = flat.tape
    flat = _half(flat)
    tokens, vocabulary = flat.shape[0], head.shape[0]
    node = begin(_cut_backward, flat, head)
    sums = tape.empty((tokens,), Dtype.FP32, "lse")
    locks = tape.empty((-(-tokens // LOCK_ROWS),), Dtype.INT32, "locks")
    means = tape.empty((vocabulary,), Dtype.FP32, "logit_avg") if node is not None else None
    del locks
    dots = tape.empty((tokens,), Dtype.FP32, "neg_dot")
    result = finish(node, tape.empty((), Dtype.FP32, "mean"))
    if node is not None:
        node.save(tape, flat, head, sums, shifted, means)
    del dots
    return result


def _half(flat: Tensor) -> Tensor:
    """The kernels take half inputs: under autocast they are cast to its dtype."""
    return flat if flat.dtype.is_half else cast(flat)


def _cut_backward(node: Node, _: Tensor) -> Gradients:
    flat, head, *_others = node.unpack()
    assert flat is not None
    assert head is not None
    tape = flat.tape
    ordering = tape.empty(head.shape[:1], Dtype.INT32, "argsort")
    of_input = tape.empty(flat.shape, flat.dtype, "grad_input")
    trains = node.edges[1] is not None
    of_head = tape.empty(head.shape, flat.dtype, "grad_weight") if trains else None
    del ordering
    if of_head is not None and of_head.dtype is not head.dtype:
        of_head = tape.empty(head.shape, head.dtype, "to")
    return of_input, of_head


FUSED = {
    "fused_linear": fused_linear_loss,
    "cut_cross_entropy": cut_loss,
    "log_probs": log_probs_loss,
}
"""Losses of hidden states and head, by the names of workloads."""
