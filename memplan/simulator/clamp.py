"""Clamping to a range."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def clamp(x: Tensor, *, sides: int) -> Tensor:
    """``x.clamp(min, max)`` with one or both ``sides`` given: saves its input.

    Backward compares it with each bound and passes the gradient where it is within
    (``clamp_backward`` in torch/csrc/autograd/FunctionsManual.cpp).
    """

    def run(node: Node, gradient: Tensor) -> Gradients:
        x = node.saved_tensor()
        zero = gradient.tape.empty((), gradient.dtype, "scalar_tensor")
        within = [ops.like(x, "compare", Dtype.BOOL) for _ in range(sides)]
        result = ops.pair(gradient, x, "where")
        del within, zero
        return (result,)

    node = begin(run, x)
    if node is not None:
        node.save(x.tape, x)
    return finish(node, ops.like(x, "clamp"))
