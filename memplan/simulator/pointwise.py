"""A convolution with windows of one element, and copies of columns: how litgpt adapts packed projections."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from memplan.simulator import layout, shapes
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.layout import Shape
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def _channels_last(shape: Shape) -> Shape:
    """Strides of (B, C, T) whose channels are neighbours in memory."""
    _, channels, length = shape
    return (channels * length, 1, channels)


def _input(x: Tensor) -> Tensor:
    """``contiguous(channels_last)``: a copy unless the channels of (B, C, T) are packed already."""
    strides = _channels_last(x.shape)
    if x.strides == strides:
        return x
    return x.tape.empty(x.shape, x.dtype, "contiguous", strides)


def _conv1d(node: Node, gradient: Tensor) -> Gradients:
    x, weight = node.unpack()
    assert x is not None
    assert weight is not None
    tape = gradient.tape
    gradient, read = _input(gradient), _input(x)
    of_x = tape.empty(x.shape, gradient.dtype, "conv_backward", _channels_last(x.shape))
    of_weight = tape.empty(weight.shape, gradient.dtype, "conv_backward")
    del read
    return of_x if node.edges[0] else None, of_weight


def conv1d(x: Tensor, weight: Tensor) -> Tensor:
    """``F.conv1d(x, weight, groups=…)`` of (B, C, T) with ``weight`` (O, C / groups, 1): gives (B, O, T).

    cuDNN runs it with channels last, as ``x`` comes as a transposed result of a linear layer
    (``cudnn_conv_suggest_memory_format`` in aten/src/ATen/native/cudnn/ConvShared.h). Saves ``x`` and the
    weight. A workspace that cuDNN's heuristics may ask for is not counted.
    """
    node = begin(_conv1d, x, weight)
    read = _input(x)
    if node is not None:
        node.save(x.tape, x, weight)
    shape = (x.shape[0], weight.shape[0], x.shape[2])
    result = x.tape.empty(shape, x.dtype, "conv1d", _channels_last(shape))
    del read
    return finish(node, result)


def columns_into(x: Tensor, width: int, columns: Callable[[], Tensor], *, copies: bool) -> Tensor:
    """``zeros(…, width).index_copy(-1, index, x)``: ``x`` (…, n) spread over ``width`` columns.

    ``columns`` makes the index. In place (``index_copy_``), or with ``copies`` on rows, into a clone of the
    zeros. Saves the index and ``x``; backward selects the columns again. Source: derivatives.yaml of PyTorch,
    ``index_copy``.
    """
    tape = x.tape
    zeros = tape.empty((*x.shape[:-1], width), x.dtype, "new_zeros")
    index = columns()
    if copies:
        x = shapes.view(x, (prod(x.shape[:-1]), x.shape[-1]))
    source = x.shape

    def run(node: Node, gradient: Tensor) -> Gradients:
        _ = node.unpack()
        return (gradient.tape.empty(source, gradient.dtype, "index_select"),)

    node = begin(run, x)
    if node is not None:
        node.save(tape, x, index)
    if not copies:
        return finish(node, zeros.detach())
    return finish(node, tape.empty((*source[:-1], width), x.dtype, "index_copy"))


def cat_channels(parts: list[Tensor]) -> Tensor:
    """``torch.cat(parts, dim=1)`` of (B, C, T) tensors, laid out as they are; backward hands out views."""
    first = parts[0]
    widths = [part.shape[1] for part in parts]
    shape = (first.shape[0], sum(widths), first.shape[2])

    def run(_: Node, gradient: Tensor) -> Gradients:
        sides = [(gradient.shape[0], width, gradient.shape[2]) for width in widths]
        return tuple([gradient.alias(side, gradient.strides) for side in sides])

    node = begin(run, *parts)
    packed = all(part.strides == _channels_last(part.shape) for part in parts)
    strides = _channels_last(shape) if packed else layout.contiguous(shape)
    return finish(node, first.tape.empty(shape, first.dtype, "cat", strides))
