"""What a step of bitsandbytes' optimizers takes on a CPU, where PyTorch's own ops update each parameter.

Source: ``_optimizer_update_8bit_blockwise_cpu`` and ``_optimizer_update_32bit_cpu`` in bitsandbytes
bitsandbytes/backends/cpu/ops.py (0.50). All of it is fp32, and gone when the parameter is updated. States are
not paged there (``get_state_buffer`` in optim/optimizer.py).
"""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.simulator.autograd import Leaf
from memplan.simulator.tensor import Tape, Tensor


def update(tape: Tape, leaf: Leaf, *, small: bool, moments: int) -> None:
    """Update one parameter with so many ``moments``, in 8 bits if they are ``small``.

    Operands are the states, unpacked if need be, the gradient, and the parameter unless it is fp32 itself.
    """
    states = [_wide(tape, leaf, "dequantize_blockwise") for _ in range(moments)] if small else []
    gradient = _scaled(tape, leaf)
    parameter = None if leaf.dtype is Dtype.FP32 else _wide(tape, leaf, "to")
    direction = (_two_moments if moments == 2 else _one_moment)(tape, leaf, small=small)
    for _ in states:
        _pack(tape, leaf)
    del states, gradient, parameter, direction


def _wide(tape: Tape, leaf: Leaf, op: str) -> Tensor:
    return tape.empty(leaf.shape, Dtype.FP32, op)


def _scaled(tape: Tape, leaf: Leaf) -> Tensor:
    """The gradient in fp32, times one."""
    gradient = leaf.grad
    cast = None if gradient is None or gradient.dtype is Dtype.FP32 else _wide(tape, leaf, "to")
    scaled = _wide(tape, leaf, "mul")
    del cast
    return scaled


def _two_moments(tape: Tape, leaf: Leaf, *, small: bool) -> Tensor:
    """AdamW: the root of the second moment and, made of it, the divisor; in 32 bits the quotient follows."""
    root = _wide(tape, leaf, "sqrt")
    divisor = _wide(tape, leaf, "div" if small else "add")
    del root
    return divisor if small else _wide(tape, leaf, "div")


def _one_moment(tape: Tape, leaf: Leaf, *, small: bool) -> Tensor:
    """Lion: in 8 bits two products and their sum, in 32 one product that the sum takes in; then the sign.

    What is held to the end is the sign in 8 bits, the sum in 32.
    """
    product = _wide(tape, leaf, "mul")
    second = _wide(tape, leaf, "mul") if small else None
    total = _wide(tape, leaf, "add")
    del product, second
    sign = _wide(tape, leaf, "sign")
    return sign if small else total


def _pack(tape: Tape, leaf: Leaf) -> None:
    """A state in 8 bits again (``quantize_blockwise``), from where it is copied to its place."""
    blocks = (-(-prod(leaf.shape) // 256),)
    scales = tape.empty(blocks, Dtype.FP32, "absmax")
    packed = tape.empty(leaf.shape, Dtype.UINT8, "quantize_blockwise")
    del scales, packed
