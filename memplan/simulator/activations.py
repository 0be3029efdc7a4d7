"""Activation functions as transformers calls them (``ACT2FN`` in its src/transformers/activations.py).

Formulas for backward: tools/autograd/derivatives.yaml of PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable

from memplan.domain.dtype import Dtype
from memplan.simulator import ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.tensor import Tensor

Activation = Callable[[Tensor], Tensor]


def _of_saved(node: Node, gradient: Tensor) -> Gradients:
    """One kernel that reads the gradient and the saved tensor and writes the input's gradient."""
    return (ops.pair(gradient, node.saved_tensor(), "activation_backward"),)


def _saving_input(x: Tensor, op: str) -> Tensor:
    node = begin(_of_saved, x)
    if node is not None:
        node.save(x.tape, x)
    return ops.finish(node, ops.like(x, op))


def _saving_result(x: Tensor, op: str) -> Tensor:
    node = begin(_of_saved, x)
    result = ops.finish(node, ops.like(x, op))
    if node is not None:
        node.save(x.tape, result.detach())
    return result


def gelu(x: Tensor) -> Tensor:
    """``F.gelu``, exact or with ``approximate="tanh"``: saves its input."""
    return _saving_input(x, "gelu")


def relu(x: Tensor) -> Tensor:
    """``F.relu``: saves its result."""
    return _saving_result(x, "relu")


def tanh(x: Tensor) -> Tensor:
    """``torch.tanh``: saves its result."""
    return _saving_result(x, "tanh")


def sigmoid(x: Tensor) -> Tensor:
    """``torch.sigmoid``: saves its result."""
    return _saving_result(x, "sigmoid")


def _cubed(x: Tensor) -> Tensor:
    """``torch.pow(x, 3.0)``, which autocast does in fp32; memory is that of a square."""
    return ops.square(ops.to(x, Dtype.FP32) if x.tape.autocast is not None else x)


def gelu_new(x: Tensor) -> Tensor:
    """``NewGELUActivation``: the tanh approximation written out in eight ops, each with a result.

    Saved: the input (for the power), the tanh, and both factors of the last product.
    """
    return ops.mul(
        ops.mul_scalar(x),
        ops.add_scalar(tanh(ops.mul_scalar(ops.add(x, ops.mul_scalar(_cubed(x)))))),
    )


def quick_gelu(x: Tensor) -> Tensor:
    """``QuickGELUActivation``: ``x * sigmoid(1.702 * x)``."""
    return ops.mul(x, sigmoid(ops.mul_scalar(x)))


ACTIVATIONS: dict[str, Activation] = {
    "gelu": gelu,
    "gelu_new": gelu_new,
    "gelu_pytorch_tanh": gelu,
    "quick_gelu": quick_gelu,
    "relu": relu,
    "sigmoid": sigmoid,
    "silu": ops.silu,
    "swish": ops.silu,
    "tanh": tanh,
}
"""By the name a ``config.json`` gives them."""
