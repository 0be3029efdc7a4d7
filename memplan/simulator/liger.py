"""Liger's kernels in place of a model's own ops: norms, gated MLPs, rotary positions, cross-entropy.

Each is one autograd function around Triton kernels that allocate nothing: memory is what its Python code
makes. Followed as of releases 0.4 to 0.8.5, whose files are named below. Hidden states (B, S, h), queries and
keys (B, H, S, D), logits (T, V).
"""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.simulator import layout, ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.splits import part
from memplan.simulator.tensor import Parameter, Tensor

_MULTIPROCESSORS = {
    (7, 0): 80,
    (7, 5): 72,
    (8, 0): 108,
    (8, 6): 84,
    (8, 9): 142,
    (9, 0): 132,
    (10, 0): 148,
    (12, 0): 188,
}
"""Of the largest GPU of each compute capability, by NVIDIA's architecture white papers."""

_ASSUMED_MULTIPROCESSORS = 108


def _row_major(x: Tensor) -> Tensor:
    """``x.contiguous()``, outside the graph (``ensure_contiguous`` in ops/utils.py)."""
    if layout.is_contiguous(x.shape, x.strides):
        return x
    return x.tape.empty(x.shape, x.dtype, "contiguous")


def rms_norm(x: Tensor, weight: Parameter, *, in_place: bool) -> Tensor:
    """``LigerRMSNormFunction``: saves its input, not an fp32 copy of it, and a number for each row.

    Backward writes over the gradient it is given or, unless ``in_place``, into a new tensor. A weight that
    trains (before 0.8.5: any) takes partial sums in fp32, one row for each multiprocessor of the GPU (that of
    the largest of its compute capability is counted). Source: ops/rms_norm.py, ``rms_norm_forward`` and
    ``rms_norm_backward``.
    """
    tape = x.tape

    def run(node: Node, gradient: Tensor) -> Gradients:
        read, saved = _row_major(gradient), node.unpack()
        gradients = _rms_norm_backward(node, read, weight, in_place=in_place)
        del read, saved
        return gradients

    node = begin(run, x, weight)
    x = _row_major(x)
    result = ops.finish(node, tape.empty(x.shape, x.dtype, "rms_norm"))
    factors = tape.empty((prod(x.shape[:-1]),), Dtype.FP32, "rstd")
    if node is not None:
        # In reverse: PyTorch lets go of what is saved first to last, a tuple last to first.
        node.save(tape, factors, weight, x)
    return result


def _rms_norm_backward(node: Node, gradient: Tensor, weight: Parameter, *, in_place: bool) -> Gradients:
    tape, width = gradient.tape, gradient.shape[-1]
    partial: Tensor | None = None
    if node.edges[1] is not None or tape.framework.liger_before(0, 8, 5):
        rows = _MULTIPROCESSORS.get(tape.capability, _ASSUMED_MULTIPROCESSORS)
        partial = tape.empty((rows, width), Dtype.FP32, "partial_sums")
    written = gradient if in_place else tape.empty(gradient.shape, gradient.dtype, "zeros_like")
    of_x = written.alias(written.shape, written.strides)
    if partial is None:
        return of_x, None
    return of_x, ops.to(tape.empty((width,), Dtype.FP32, "sum"), weight.dtype)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """``LigerSiLUMulFunction`` and ``LigerGELUMulFunction``: ``act(gate) * up`` in one result.

    Saves both factors; backward writes their gradients over them and takes no memory. Factors that are not
    row-major, as halves of a packed projection, are copied first. Source: ops/swiglu.py, ops/geglu.py.
    """
    node = begin(_gated, gate, up)
    gate, up = _row_major(gate), _row_major(up)
    result = ops.finish(node, gate.tape.empty(gate.shape, gate.dtype, "gated"))
    if node is not None:
        node.save(gate.tape, gate, up)
    return result


def _gated(node: Node, gradient: Tensor) -> Gradients:
    read = _row_major(gradient)
    gate, up = node.unpack()
    assert gate is not None
    assert up is not None
    del read
    return gate.alias(gate.shape, gate.strides), up.alias(up.shape, up.strides)


def rotate(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """``LigerRopeFunction``: turns queries and keys (B, H, S, D) where they are, saves only the tables.

    The kernel walks through (B, S, H, D): what is laid out otherwise is copied, and so are such gradients in
    backward, which turns them where they are too. Source: ops/rope.py, ``rope_forward``, ``rope_backward``.
    """
    waiting: list[Tensor | None] = [None, None]
    sides = query.shape, key.shape

    def run(node: Node, gradient: Tensor) -> Gradients:
        tables = node.unpack()
        found = [
            arrived if arrived is not None else gradient.tape.empty(side, gradient.dtype, "zeros")
            for arrived, side in zip(waiting, sides, strict=True)
        ]
        for index in range(len(waiting)):
            waiting[index] = None
        of_query, of_key = (_turned(arrived) for arrived in found)
        del tables, found
        return of_query, of_key

    node = begin(run, query, key)
    results = _turned(query), _turned(key)
    if node is not None:
        for index, result in enumerate(results):
            part(node, waiting, index, result)
        node.save(query.tape, cosine, sine)
    return results


def _turned(x: Tensor) -> Tensor:
    """The memory of ``x`` (B, H, S, D) if it is that of a row-major (B, S, H, D), else a copy like that."""
    batch, heads, length, width = x.shape
    strides = (length * heads * width, width, heads * width, 1)
    shape = (batch, length, heads, width)
    if layout.is_contiguous(shape, (x.strides[0], x.strides[2], x.strides[1], x.strides[3])):
        return x.alias(x.shape, x.strides)
    copied = x.tape.empty(shape, x.dtype, "contiguous")
    return copied.alias(x.shape, strides)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``LigerCrossEntropyFunction``: the gradient is made in the forward pass, over the logits (T, V).

    A number for each token besides, in the logits' dtype, and what counts and checks the ``labels``. Source:
    ops/cross_entropy.py, ``cross_entropy_forward``.
    """
    tape = logits.tape

    def run(node: Node, _: Tensor) -> Gradients:
        return (node.saved_tensor(),)

    node = begin(run, logits)
    rows = labels.shape
    losses = tape.empty(rows, logits.dtype, "loss_1d")
    counted = tape.empty(rows, Dtype.BOOL, "ne")
    # CUDA sums flags in a copy of the sum's dtype; then the greatest and the smallest label are looked at.
    for op in ("to", "mul", "mul"):
        tape.empty(rows, Dtype.INT64, op)
    result = ops.finish(node, tape.empty((), logits.dtype, "sum"))
    if node is not None:
        node.save(tape, logits.detach())
    del losses, counted
    return result
