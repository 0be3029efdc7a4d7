"""In-place ops: no new result, but what backward needs of the overwritten tensor is copied before.

Sources: what torch's ``gen_variable_type.py`` generates for in-place ops (``original_self``);
``CopySlices`` in torch/csrc/autograd/functions/tensor.cpp.
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


def copy_into(base: Tensor, source: Tensor) -> Tensor:
    """``base[..., a:b].copy_(source)``: ``base`` under a new node.

    Backward copies the whole gradient and clones the slice of it; if what ``base`` held before has a
    gradient too, the slice is overwritten with zeros made for it.
    """
    tape, shape, strides, part = base.tape, base.shape, base.strides, source.shape

    def run(node: Node, gradient: Tensor) -> Gradients:
        whole = tape.empty(shape, gradient.dtype, "copy_slices", strides)
        of_source = tape.empty(part, gradient.dtype, "clone")
        if node.edges[0] is None:
            return None, of_source
        tape.empty(part, gradient.dtype, "zeros")
        return whole, of_source

    node = begin(run, base, source)
    return finish(node, base.detach())
