"""The head's products with one chunk of tokens after the other, as Liger's fused linear loss makes them.

Shapes: flat hidden states (T, h), head (V, h). Source: ``fused_linear_cross_entropy_forward`` in Liger-Kernel
src/liger_kernel/ops/fused_linear_cross_entropy.py, of the releases named below.
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import ops
from memplan.simulator.matmul import cast
from memplan.simulator.tensor import Parameter, Tape, Tensor


def chunk_rows(tokens: int, vocabulary: int, width: int) -> int:
    """Tokens whose logits Liger holds at once: so many that they take about as much as the hidden states.

    ``next_power_of_2(ceil(T / ceil(V / h)))``, at most T.
    """
    rows = -(-tokens // -(-vocabulary // width))
    return min(1 << (rows - 1).bit_length(), tokens)


def chunks(flat: Tensor, head: Parameter, of_head: Tensor | None) -> None:
    """Logits and their gradients, in place, for each chunk; then the products that the gradients go into."""
    tape = flat.tape
    if tape.framework.liger_before(0, 8, 3):
        return _older(flat, head, of_head)
    tokens, width = flat.shape
    rows = chunk_rows(tokens, head.shape[0], width)
    dtype = tape.autocast or flat.dtype
    direct = flat.dtype is head.dtype is dtype
    tape.take_workspace()
    buffer = tape.empty((rows, head.shape[0]), dtype, "logits_storage") if direct else None
    for start in range(0, tokens, rows):
        taken = min(rows, tokens - start)
        logits = buffer if buffer is not None else _projected(tape, taken, flat, head, dtype)
        if not direct:
            weight = cast(head)
            product = tape.empty((taken, width), dtype, "mm")
            del weight, product
        if of_head is not None:
            _accumulate(tape, logits, (taken, width), flat.dtype, of_head)
        del logits
    del buffer
    return None


def _older(flat: Tensor, head: Parameter, of_head: Tensor | None) -> None:
    """Before 0.8.3 each chunk had logits of its own, made while the last chunk's were still there.

    Before 0.5 they were upcast for the kernel, and until 0.5.3 their gradients scaled into a copy. Since
    0.8.1 a transposed view holds them even longer, if the head trains.
    """
    tape, framework = flat.tape, flat.tape.framework
    tokens, width = flat.shape
    rows = chunk_rows(tokens, head.shape[0], width)
    dtype = tape.autocast or flat.dtype
    tape.take_workspace()
    gradients: Tensor | None = None
    share: Tensor | None = None
    turned: Tensor | None = None
    for start in range(0, tokens, rows):
        taken = min(rows, tokens - start)
        logits = _projected(tape, taken, flat, head, dtype)
        if framework.liger_before(0, 5):
            logits = ops.to(logits, Dtype.FP32)
            logits = ops.to(logits, flat.dtype)
        gradients = logits
        if framework.liger_before(0, 5, 3):
            share = tape.empty((), Dtype.FP32, "div")
            gradients = ops.mul_scalar(logits)
        weight = cast(head)
        product = tape.empty((taken, width), gradients.dtype, "mm")
        del weight, product
        if of_head is not None:
            turned = None if framework.liger_before(0, 8, 1) else logits
            _accumulate(tape, logits, (taken, width), flat.dtype, of_head)
    del gradients, share, turned


def _projected(tape: Tape, rows: int, flat: Tensor, head: Parameter, dtype: Dtype) -> Tensor:
    """``chunk @ weight.t()`` under autocast, which casts both; the transposed weight is not cached."""
    chunk = tape.empty((rows, flat.shape[1]), dtype, "to") if flat.dtype is not dtype else None
    weight = tape.empty(head.shape, dtype, "to") if head.dtype is not dtype else None
    logits = tape.empty((rows, head.shape[0]), dtype, "mm")
    del chunk, weight
    return logits


def _accumulate(tape: Tape, logits: Tensor, chunk: tuple[int, int], dtype: Dtype, of_head: Tensor) -> None:
    """The head's gradient: added to by the product itself, or by way of a product and its fp32 copy.

    Before 0.6.2 always by the product itself, of gradients cast to the inputs' dtype; then never, until 0.8.1
    began with fp32 gradients on Ampere and later GPUs, and 0.8.3 went on with others.
    """
    framework, recent = tape.framework, tape.capability >= (8, 0)
    if framework.liger_before(0, 6, 2):
        _ = ops.to(logits, dtype)
        return
    direct = {Dtype.FP32} if framework.liger_before(0, 8, 3) else {Dtype.FP32, logits.dtype}
    direct = set() if framework.liger_before(0, 8, 1) else direct
    if recent and logits.dtype.is_half and of_head.dtype in direct:
        if dtype is not logits.dtype:
            tape.empty(chunk, logits.dtype, "to")
        return
    product = tape.empty(of_head.shape, logits.dtype, "mm")
    if product.dtype is not Dtype.FP32:
        tape.empty(of_head.shape, Dtype.FP32, "float")
    del product
