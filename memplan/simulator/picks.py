"""Reading one place along an axis, by a number (a view) or a list of one (a copy); joining two tensors."""

from __future__ import annotations

from memplan.simulator import ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def select(x: Tensor, axis: int) -> Tensor:
    """``x.select(axis, place)`` for a non-negative axis: a view; backward zero-fills the whole size."""
    source, strides = x.shape, x.strides

    def run(_: Node, gradient: Tensor) -> Gradients:
        return (gradient.tape.empty(source, gradient.dtype, "select_backward"),)

    node = begin(run, x)
    shape = source[:axis] + source[axis + 1 :]
    return finish(node, x.alias(shape, strides[:axis] + strides[axis + 1 :]))


def pick(x: Tensor, axis: int) -> Tensor:
    """``x[:, …, [place]]``: a row-major copy that keeps the axis; backward adds it to zeros.

    The index is a single number; what CUDA allocates to handle it is left out.
    """
    source = x.shape

    def run(_: Node, gradient: Tensor) -> Gradients:
        return (gradient.tape.empty(source, gradient.dtype, "index_backward"),)

    node = begin(run, x)
    return finish(node, x.tape.empty((*source[:axis], 1, *source[axis + 1 :]), x.dtype, "index"))


def cat(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """``torch.cat((a, b), axis)`` for a non-negative axis: a row-major copy; backward hands out views.

    CUDA's kernel reads two dtypes as they are; only the CPU's autocast casts them first
    (``AT_FORALL_PROMOTE`` in aten/src/ATen/autocast_mode.h).
    """
    dtype = ops.promote(a.dtype, b.dtype)
    left, right = a.shape, b.shape

    def run(_: Node, gradient: Tensor) -> Gradients:
        return gradient.alias(left, gradient.strides), gradient.alias(right, gradient.strides)

    node = begin(run, a, b)
    whole = (*left[:axis], left[axis] + right[axis], *left[axis + 1 :])
    return finish(node, a.tape.empty(whole, dtype, "cat"))
