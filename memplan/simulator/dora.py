"""Weight-decomposed adapters (DoRA): a learned magnitude for each output, and the weight's norm each time.

Source: ``DoraLinearLayer.forward`` in peft src/peft/tuners/lora/dora.py and ``DoraLinearVariant.forward`` in
variants.py beside it (0.21).
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import ops, shapes
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.blocks import Linear
from memplan.simulator.matmul import linear
from memplan.simulator.ops import finish
from memplan.simulator.quantization import Matrix
from memplan.simulator.tensor import Parameter, Tape, Tensor

Parameters = tuple[Parameter, Parameter, Parameter]


def adapted(base: Linear, adapters: Parameters, x: Tensor, result: Tensor, *, dropout: bool) -> Tensor:
    """``result`` of the base plus what the adapter adds to it; ``adapters`` are A, B and the magnitude.

    With dropout the base is applied again, to what is left of the input.
    """
    if dropout:
        x = ops.dropout(x)
    return ops.add(result, _added(base, adapters, x, None if dropout else result))


def _added(base: Linear, adapters: Parameters, x: Tensor, base_result: Tensor | None) -> Tensor:
    """The norm of the adapted weight needs the product of A and B, the weight in their dtype, and the sum.

    The product is made by sending the identity through both: in × in, then in × out.
    """
    down, up, magnitude = adapters
    lora_weight = ops.to(_product(down, up), x.dtype)
    weight = ops.to(_whole(base), x.dtype)
    norm = _norm(weight, lora_weight.detach())
    scale = shapes.view(_div(magnitude, norm), (1, magnitude.shape[0]))
    lora_result = linear(linear(x, down), up)
    if base_result is None:
        base_result = linear(x, weight)
    elif base.bias is not None:
        base_result = ops.sub(base_result, base.bias)
    return ops.add(ops.mul(ops.add_scalar(scale), base_result), ops.mul_scalar(ops.mul(scale, lora_result)))


def _product(down: Parameter, up: Parameter) -> Tensor:
    """``lora_B(lora_A(eye)).T``."""
    side = down.shape[1]
    identity = down.tape.empty((side, side), down.dtype, "eye")
    return shapes.transpose(linear(linear(identity, down), up), 0, 1)


def _whole(base: Linear) -> Tensor:
    """The base's weight, dequantized if need be (``dequantize_module_weight``)."""
    weight = base.weight
    if not isinstance(weight, Matrix):
        return weight.detach()
    if weight.settings.kind == "int8":
        return _from_int8(weight.tape, weight.shape)
    return weight.unpack_again(weight.dtype)


def _from_int8(tape: Tape, shape: tuple[int, int]) -> Tensor:
    """``int8_vectorwise_dequant``: times the scales, times a constant, both fp32."""
    _scaled = tape.empty(shape, Dtype.FP32, "mul")
    return tape.empty(shape, Dtype.FP32, "mul")


def _norm(weight: Tensor, lora_weight: Tensor) -> Tensor:
    """``get_weight_norm``: outside the graph."""
    weight = ops.pair(weight, ops.like(lora_weight, "mul"), "add")
    return weight.tape.empty(weight.shape[:1], weight.dtype, "norm")


def _div_backward(node: Node, gradient: Tensor) -> Gradients:
    return ops.pair(gradient, node.saved_tensor(), "div"), None


def _div(magnitude: Parameter, norm: Tensor) -> Tensor:
    """``magnitude / norm``, where only the magnitude needs a gradient."""
    node = begin(_div_backward, magnitude, norm)
    if node is not None:
        node.save(magnitude.tape, norm)
    return finish(node, ops.pair(magnitude, norm, "div"))
