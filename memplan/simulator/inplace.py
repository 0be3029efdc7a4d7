"""In-place ops: no new result, but what backward needs of the overwritten tensor is copied before.

Source: the code torch's ``gen_variable_type.py`` makes for in-place ops (``original_self``).
"""

from __future__ import annotations

from memplan.simulator import ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def _add(_: Node, gradient: Tensor) -> Gradients:
    return gradient, gradient


def add(x: Tensor, other: Tensor) -> Tensor:
    """``x.add_(other)``: the same memory under a new node."""
    node = begin(_add, x, other)
    return finish(node, x.detach())


def _divide(node: Node, gradient: Tensor) -> Gradients:
    # div_tensor_other_grad: -grad * ((self / other) / other); then div_tensor_self_grad: grad / other.
    x, other = node.unpack()
    assert other is not None
    of_other = None
    if x is not None:
        negative = ops.like(gradient, "neg")
        quotient = ops.pair(x, other, "div")
        twice = ops.pair(quotient, other, "div")
        of_other = ops.pair(negative, twice, "mul")
        del twice, quotient, negative
    return ops.pair(gradient, other, "div"), of_other


def divide(x: Tensor, other: Tensor) -> Tensor:
    """``x /= other``: saves a copy of ``x`` when ``other`` needs a gradient, and ``other``."""
    node = begin(_divide, x, other)
    if node is not None:
        original = ops.like(x, "clone") if node.edges[1] else None
        node.save(x.tape, original, other)
    return finish(node, x.detach())
