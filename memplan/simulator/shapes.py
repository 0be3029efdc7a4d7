"""Changes of shape: views where strides allow, copies where they do not, and what backward makes of them."""

from __future__ import annotations

from memplan.simulator import layout
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.layout import Shape
from memplan.simulator.ops import clone, finish, promote
from memplan.simulator.tensor import Tensor


def contiguous(x: Tensor) -> Tensor:
    """``x.contiguous()``."""
    return x if layout.is_contiguous(x.shape, x.strides) else clone(x)


def view(x: Tensor, shape: Shape) -> Tensor:
    """``x.view(shape)`` where that is possible, else the copy that ``x.reshape(shape)`` makes.

    The copy is not a view of anything (``_unsafe_view`` in ``reshape``, aten's TensorShape.cpp).
    """
    strides = layout.view(x.shape, x.strides, shape)
    copied = strides is None
    if copied:
        x = clone(x)
        strides = layout.contiguous(shape)
    source = x.shape

    def run(_: Node, gradient: Tensor) -> Gradients:
        return (view(gradient, source),)

    node = begin(run, x)
    result = x.alias(shape, strides or ())
    if copied:
        result.base = None
    return finish(node, result)


def transpose(x: Tensor, first: int, second: int) -> Tensor:
    """``x.transpose(first, second)`` for non-negative axes: always a view."""

    def run(_: Node, gradient: Tensor) -> Gradients:
        return (_swap(gradient, first, second),)

    node = begin(run, x)
    return finish(node, _swap(x, first, second))


def _swap(x: Tensor, first: int, second: int) -> Tensor:
    shape, strides = list(x.shape), list(x.strides)
    shape[first], shape[second] = shape[second], shape[first]
    strides[first], strides[second] = strides[second], strides[first]
    return x.alias(tuple(shape), tuple(strides))


def permute(x: Tensor, order: Shape) -> Tensor:
    """``x.permute(order)``: always a view."""

    def run(_: Node, gradient: Tensor) -> Gradients:
        return (_ordered(gradient, tuple(order.index(axis) for axis in range(len(order)))),)

    node = begin(run, x)
    return finish(node, _ordered(x, order))


def _ordered(x: Tensor, order: Shape) -> Tensor:
    return x.alias(tuple(x.shape[axis] for axis in order), tuple(x.strides[axis] for axis in order))


def expand(x: Tensor, shape: Shape) -> Tensor:
    """``x.expand(shape)``: a view; backward sums over the expanded axes into a new tensor, if there are any.

    Without any it hands the gradient on (``sum_to`` in aten/src/ATen/ExpandUtils.h).
    """
    source = x.shape

    def run(_: Node, gradient: Tensor) -> Gradients:
        if gradient.shape == source:
            return (gradient,)
        return (gradient.tape.empty(source, gradient.dtype, "sum"),)

    node = begin(run, x)
    return finish(node, x.alias(shape, layout.expand(x.shape, x.strides, shape)))


def unsqueeze(x: Tensor, axis: int) -> Tensor:
    """``x.unsqueeze(axis)`` for a non-negative axis: a view."""
    shape, strides = x.shape, x.strides
    step = strides[axis] * shape[axis] if axis < len(shape) else 1

    def run(_: Node, gradient: Tensor) -> Gradients:
        sides, steps = gradient.shape, gradient.strides
        return (gradient.alias(sides[:axis] + sides[axis + 1 :], steps[:axis] + steps[axis + 1 :]),)

    node = begin(run, x)
    result = x.alias((*shape[:axis], 1, *shape[axis:]), (*strides[:axis], step, *strides[axis:]))
    return finish(node, result)


def narrow(x: Tensor, axis: int, length: int) -> Tensor:
    """A slice of ``length`` along one axis: a view; backward zero-fills a tensor of the whole size."""
    source = x.shape

    def run(_: Node, gradient: Tensor) -> Gradients:
        return (gradient.tape.empty(source, gradient.dtype, "slice_backward"),)

    node = begin(run, x)
    return finish(node, x.alias((*source[:axis], length, *source[axis + 1 :]), x.strides))


def narrow_last(x: Tensor, width: int) -> Tensor:
    """A slice of ``width`` along the last axis: a view; backward zero-fills a tensor of the whole size.

    A slice of everything is an alias, whose gradient passes (``applySlice`` in
    torch/csrc/autograd/python_variable_indexing.cpp).
    """
    source = x.shape

    def run(_: Node, gradient: Tensor) -> Gradients:
        if width == source[-1]:
            return (gradient,)
        return (gradient.tape.empty(source, gradient.dtype, "slice_backward"),)

    node = begin(run, x)
    return finish(node, x.alias((*source[:-1], width), x.strides))


def last_rows(x: Tensor, rows: int) -> Tensor:
    """The last rows along the second axis, ``x[:, -rows:]``, outside the autograd graph: a view."""
    return x.alias((x.shape[0], min(rows, x.shape[1]), *x.shape[2:]), x.strides)


def first_keys(x: Tensor, length: int) -> Tensor:
    """``x[:, :, :length, :]`` of keys or values (B, K, S, D), outside the autograd graph: a view."""
    return x.alias((*x.shape[:2], length, x.shape[3]), x.strides)


def cat_last(a: Tensor, b: Tensor) -> Tensor:
    """``torch.cat((a, b), dim=-1)``: a row-major copy in the wider dtype; backward hands out views."""
    left, right = a.shape, b.shape

    def run(_: Node, gradient: Tensor) -> Gradients:
        return gradient.alias(left, gradient.strides), gradient.alias(right, gradient.strides)

    node = begin(run, a, b)
    return finish(node, a.tape.empty((*left[:-1], left[-1] + right[-1]), promote(a.dtype, b.dtype), "cat"))


def pad_last(x: Tensor, width: int) -> Tensor:
    """``F.pad(x, [0, width - x.shape[-1]])``: a copy unless ``x`` is as wide, and so is its gradient.

    Padding by less than nothing clones the rest (``constant_pad_nd`` in aten/src/ATen/native/PadNd.cpp).
    """
    source = x.shape
    if source[-1] == width:
        return x

    def run(_: Node, gradient: Tensor) -> Gradients:
        return (gradient.tape.empty(source, gradient.dtype, "pad_backward"),)

    node = begin(run, x)
    return finish(node, x.tape.empty((*source[:-1], width), x.dtype, "pad"))
