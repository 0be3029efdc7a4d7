"""litgpt's loss: logits of 128 tokens at a time, upcast by Fabric, and a cross-entropy for each piece.

Source: ``chunked_cross_entropy`` in litgpt/utils.py; ``_FabricModule.forward`` in
lightning/fabric/wrappers.py, which converts what a model returns to PyTorch's default dtype.
Shapes: logits (B, T, V), labels (B, T).
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import ops, shapes
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.loss import log_softmax
from memplan.simulator.ops import finish
from memplan.simulator.splits import split
from memplan.simulator.tensor import Tensor

CHUNK = 128
"""Tokens per piece (``lm_head_chunk_size`` of the recipes, ``chunk_size`` of the loss)."""


def widths(length: int) -> list[int]:
    """Sizes of ``split(CHUNK)``."""
    return [min(CHUNK, length - start) for start in range(0, length, CHUNK)]


def of_pieces(logits: list[Tensor], labels: Tensor) -> Tensor:
    """The loss of logits that were made in pieces (B, ≤128, V) in fp32, the last one a token short."""
    tape, batch = labels.tape, labels.shape[0]
    pieces = [shapes.view(piece, (batch * piece.shape[1], piece.shape[2])) for piece in logits]
    copied = batch > 1
    targets = [
        tape.empty((piece.shape[0],), Dtype.INT64, "reshape") if copied else labels for piece in pieces
    ]
    losses = [_losses(piece, target) for piece, target in zip(pieces, targets, strict=True)]
    result = _reduced(losses, labels)
    del pieces, targets, losses
    return result


def of_whole(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of logits that are there at once: shifted, flattened, and then split by rows."""
    tape = labels.tape
    batch, length, vocabulary = logits.shape
    rows = batch * (length - 1)
    logits = shapes.view(shapes.narrow(logits, 1, length - 1), (rows, vocabulary))
    targets = tape.empty((rows,), Dtype.INT64, "reshape") if batch > 1 else labels
    pieces = split(logits, 0, widths(rows))
    return _reduced([_losses(piece, targets) for piece in pieces], labels)


def _reduced(losses: list[Tensor], labels: Tensor) -> Tensor:
    """The mean over tokens that count."""
    tape = labels.tape
    counted = tape.empty(labels.shape, Dtype.BOOL, "ne")
    elements = tape.empty((), Dtype.INT64, "sum")
    del counted
    total = _sum(losses)
    del elements
    return ops.mul_scalar(total)


def _sum(losses: list[Tensor]) -> Tensor:
    """``torch.cat(losses).sum()``: backward expands the gradient."""
    tape = losses[0].tape
    sides = [loss.shape for loss in losses]

    def run(_: Node, gradient: Tensor) -> Gradients:
        return tuple([gradient.alias(side, (0,)) for side in sides])

    node = begin(run, *losses)
    joined = tape.empty((sum(side[0] for side in sides),), Dtype.FP32, "cat")
    result = finish(node, tape.empty((), Dtype.FP32, "sum"))
    del joined
    return result


def _nll_loss(node: Node, _: Tensor) -> Gradients:
    log_probabilities = node.unpack()[0]
    assert log_probabilities is not None
    return (ops.like(log_probabilities, "nll_loss_backward"),)


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """``cross_entropy(…, reduction="none")``: a number for every row."""
    log_probabilities = log_softmax(logits)
    tape = logits.tape
    node = begin(_nll_loss, log_probabilities)
    result = finish(node, tape.empty((logits.shape[0],), Dtype.FP32, "nll_loss"))
    total = tape.empty((), Dtype.FP32, "total_weight")
    if node is not None:
        node.save(tape, log_probabilities, labels, total)
    return result
