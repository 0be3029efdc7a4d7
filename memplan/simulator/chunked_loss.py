"""Cross-entropy over pieces of the sequence, of which one at a time is in fp32."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import ops, shapes
from memplan.simulator.loss import log_softmax, nll_loss
from memplan.simulator.splits import split
from memplan.simulator.tensor import Tensor


def chunked_loss(logits: Tensor, labels: Tensor, chunks: int) -> Tensor:
    """``CEWithChunkedOutputLoss`` on logits (B, S, V) of the whole sequence, cut along it.

    What it saves is the fp32 copy: the log-probabilities of every piece stay until backward, and its
    gradients are gathered in the logits' dtype. Compiled, as axolotl has it by default, it may keep less.
    Source: torchtune torchtune/modules/loss/ce_chunked_output_loss.py and axolotl
    src/axolotl/monkeypatch/loss/chunked.py (``get_causal_lm_loss``).
    """
    tape = labels.tape
    batch, length, vocabulary = logits.shape
    padded = tape.empty((batch, length + 1), Dtype.INT64, "pad")
    targets = tape.empty((batch, length), Dtype.INT64, "contiguous")
    del padded
    counted = tape.empty((batch, length), Dtype.BOOL, "ne")
    elements = tape.empty((), Dtype.INT64, "sum")
    del counted
    widths = _widths(length, chunks)
    target_pieces = [shapes.view(piece, (batch * piece.shape[1],)) for piece in split(targets, 1, widths)]
    pieces = [shapes.view(piece, (batch * piece.shape[1], vocabulary)) for piece in split(logits, 1, widths)]
    total: Tensor | None = None
    for piece, target in zip(pieces, target_pieces, strict=True):
        loss = _cross_entropy(piece, target)
        total = ops.add_scalar(loss) if total is None else ops.add(total, loss)
    assert total is not None
    result = ops.mul_scalar(total)
    del elements
    return result


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``F.cross_entropy(logits.float(), labels, reduction="sum")``."""
    logits = ops.to(logits, Dtype.FP32)
    return nll_loss(log_softmax(logits), labels)


def _widths(length: int, chunks: int) -> list[int]:
    """Sizes of ``torch.chunk``: all alike but the last, and perhaps fewer than asked for."""
    width = -(-length // chunks)
    return [min(width, length - start) for start in range(0, length, width)]
