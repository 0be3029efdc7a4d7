"""Reading one place along an axis: by a number, which is a view, or by a list of one, which is a copy."""

from __future__ import annotations

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
