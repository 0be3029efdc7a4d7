"""The convolution that cuts an image into patches."""

from __future__ import annotations

from memplan.simulator import layout
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.matmul import cast
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def _patches(node: Node, gradient: Tensor) -> Gradients:
    # convolution_backward: the gradient made row-major for cuDNN, the weight's, then the bias' as a sum.
    x, weight = node.unpack()
    assert weight is not None
    of_image, of_weight, of_bias = node.edges
    tape = gradient.tape
    row_major = None
    if not layout.is_contiguous(gradient.shape, gradient.strides):
        row_major = tape.empty(gradient.shape, gradient.dtype, "contiguous")
    results = [
        tape.empty(x.shape, gradient.dtype, "convolution_backward") if of_image and x is not None else None,
        tape.empty(weight.shape, gradient.dtype, "convolution_backward") if of_weight else None,
    ]
    del row_major
    results.append(tape.empty(gradient.shape[1:2], gradient.dtype, "sum") if of_bias else None)
    return tuple(results)


def patches(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``nn.Conv2d`` whose kernels (out, channels, side, side) do not overlap: (B, out, rows, columns).

    Saves the image and the weight. cuDNN adds the bias in place; what it takes for its own work is left out
    (``_convolution`` and ``convolution_backward`` in aten/src/ATen/native/Convolution.cpp).
    """
    bias, weight, image = cast(bias), cast(weight), cast(image)
    node = begin(_patches, image, weight, bias)
    if node is not None:
        node.save(image.tape, image, weight)
    batch, _, height, width = image.shape
    down, across = weight.shape[2:]
    made = (batch, weight.shape[0], height // down, width // across)
    return finish(node, image.tape.empty(made, image.dtype, "convolution"))
