"""Sums over one axis: backward expands the gradient, which takes no memory."""

from __future__ import annotations

from memplan.simulator import layout
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def over(x: Tensor, axis: int, *, keep: bool = False) -> Tensor:
    """``x.sum(axis, keepdim=keep)`` for a non-negative axis."""
    shape = x.shape
    kept = (*shape[:axis], 1, *shape[axis + 1 :])

    def run(_: Node, gradient: Tensor) -> Gradients:
        strides = gradient.strides
        if not keep:
            strides = (*strides[:axis], 0, *strides[axis:])
        return (gradient.alias(shape, layout.expand(kept, strides, shape)),)

    node = begin(run, x)
    return finish(node, x.tape.empty(kept if keep else (*shape[:axis], *shape[axis + 1 :]), x.dtype, "sum"))
