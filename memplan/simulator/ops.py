"""Elementwise ops and reductions: what each allocates, saves, and allocates again in backward.

Formulas for backward follow tools/autograd/derivatives.yaml and FunctionsManual.cpp of PyTorch; where
an op has several gradients they are computed in alphabetical order of their argument names.
"""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.simulator import layout
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.tensor import HOST, Parameter, Tensor

_WIDTH = {Dtype.FP64: 4, Dtype.FP32: 3, Dtype.BF16: 1, Dtype.FP16: 1}


def promote(first: Dtype, second: Dtype) -> Dtype:
    """The dtype of an op on two floating point tensors (bf16 with fp16 gives fp32)."""
    if first is second:
        return first
    if _WIDTH[first] == _WIDTH[second]:
        return Dtype.FP32
    return first if _WIDTH[first] > _WIDTH[second] else second


def finish(node: Node | None, result: Tensor) -> Tensor:
    """Connect a result to the node of its op, if it has one."""
    if node is not None:
        node.finish(result)
    return result


def like(x: Tensor, op: str, dtype: Dtype | None = None) -> Tensor:
    """A new tensor laid out as an elementwise op on ``x`` would lay out its result."""
    shape, strides = layout.elementwise((x.shape, x.strides))
    return x.tape.empty(shape, dtype or x.dtype, op, strides)


def pair(a: Tensor, b: Tensor, op: str) -> Tensor:
    """A new tensor laid out as the elementwise result of ``a`` and ``b``.

    A CPU casts the narrower one into a copy first, a GPU reads it as it is (``TensorIteratorBase::
    compute_types`` in aten/src/ATen/TensorIterator.cpp): the trace says how large the copy is.
    """
    shape, strides = layout.elementwise((a.shape, a.strides), (b.shape, b.strides))
    dtype = promote(a.dtype, b.dtype)
    result = a.tape.empty(shape, dtype, op, strides)
    if a.dtype is not b.dtype:
        narrow = b if a.dtype is dtype else a
        a.tape.trace.mixed[result.storage.block] = prod(narrow.shape) * dtype.itemsize
    return result


def _pass(_: Node, gradient: Tensor) -> Gradients:
    return (gradient,)


def to(x: Tensor, dtype: Dtype) -> Tensor:
    """``x.to(dtype)``; the engine casts the gradient back."""
    if x.dtype is dtype:
        return x
    node = begin(_pass, x)
    return finish(node, like(x, "to", dtype))


def clone(x: Tensor) -> Tensor:
    """``x.contiguous()`` of a tensor that is not: a row-major copy."""
    node = begin(_pass, x)
    return finish(node, x.tape.empty(x.shape, x.dtype, "clone"))


def _add(_: Node, gradient: Tensor) -> Gradients:
    return gradient, gradient


def add(a: Tensor, b: Tensor) -> Tensor:
    """``a + b``: saves nothing; both inputs get the same gradient."""
    node = begin(_add, a, b)
    return finish(node, pair(a, b, "add"))


def _sub(node: Node, gradient: Tensor) -> Gradients:
    return gradient, like(gradient, "neg") if node.edges[1] else None


def sub(a: Tensor, b: Tensor) -> Tensor:
    """``a - b``: saves nothing; the gradient of ``b`` is negated into a new tensor."""
    node = begin(_sub, a, b)
    return finish(node, pair(a, b, "sub"))


def add_scalar(x: Tensor) -> Tensor:
    """``x + number``."""
    node = begin(_pass, x)
    return finish(node, like(x, "add"))


def _mul(node: Node, gradient: Tensor) -> Gradients:
    a, b = node.unpack()
    of_b = pair(gradient, a, "mul") if a is not None else None
    of_a = pair(gradient, b, "mul") if b is not None else None
    return of_a, of_b


def mul(a: Tensor, b: Tensor) -> Tensor:
    """``a * b``: each factor is saved if the other needs a gradient."""
    node = begin(_mul, a, b)
    if node is not None:
        needs_a, needs_b = node.edges
        node.save(a.tape, a if needs_b else None, b if needs_a else None)
    return finish(node, pair(a, b, "mul"))


def _mul_scalar(_: Node, gradient: Tensor) -> Gradients:
    return (like(gradient, "mul"),)


def mul_scalar(x: Tensor) -> Tensor:
    """``x * number``."""
    node = begin(_mul_scalar, x)
    return finish(node, like(x, "mul"))


def _neg(_: Node, gradient: Tensor) -> Gradients:
    return (like(gradient, "neg"),)


def neg(x: Tensor) -> Tensor:
    """``-x``."""
    node = begin(_neg, x)
    return finish(node, like(x, "neg"))


def _square(node: Node, gradient: Tensor) -> Gradients:
    # pow_backward: grad * (exponent * self.pow(exponent - 1)), each factor a tensor of its own.
    x = node.saved_tensor()
    power = like(x, "pow")
    scaled = like(power, "mul")
    return (pair(gradient, scaled, "mul"),)


def square(x: Tensor) -> Tensor:
    """``x.pow(2)``: saves its input."""
    node = begin(_square, x)
    if node is not None:
        node.save(x.tape, x)
    return finish(node, like(x, "pow"))


def mean_last(x: Tensor) -> Tensor:
    """``x.mean(-1, keepdim=True)``: in backward, the gradient is expanded and divided into a new tensor."""
    shape = x.shape

    def run(_: Node, gradient: Tensor) -> Gradients:
        return (gradient.tape.empty(shape, gradient.dtype, "div"),)

    node = begin(run, x)
    return finish(node, x.tape.empty((*shape[:-1], 1), x.dtype, "mean"))


def _rsqrt(node: Node, gradient: Tensor) -> Gradients:
    # -0.5 * grad * result.pow(3)
    result = node.saved_tensor()
    scaled = like(gradient, "mul")
    cubed = like(result, "pow")
    return (pair(scaled, cubed, "mul"),)


def rsqrt(x: Tensor) -> Tensor:
    """``torch.rsqrt(x)``: saves its result."""
    node = begin(_rsqrt, x)
    result = finish(node, like(x, "rsqrt"))
    if node is not None:
        node.save(x.tape, result.detach())
    return result


def _silu(node: Node, gradient: Tensor) -> Gradients:
    x = node.saved_tensor()
    return (pair(gradient, x, "silu_backward"),)


def silu(x: Tensor) -> Tensor:
    """``F.silu(x)``: saves its input."""
    node = begin(_silu, x)
    if node is not None:
        node.save(x.tape, x)
    return finish(node, like(x, "silu"))


def _dropout(node: Node, gradient: Tensor) -> Gradients:
    (mask,) = node.unpack()
    return (like(gradient, "masked_scale"),) if mask is not None else (None,)


def dropout(x: Tensor) -> Tensor:
    """``F.dropout`` with a positive rate (``native_dropout`` on CUDA): saves a byte per element.

    The mask comes before the result (``dropout_cuda`` in aten/src/ATen/native/cuda/Dropout.cu). Outside of
    training mode it does nothing.
    """
    if not x.tape.training:
        return x
    node = begin(_dropout, x)
    mask = like(x, "dropout_mask", Dtype.BOOL)
    result = finish(node, like(x, "dropout"))
    if node is not None:
        node.save(x.tape, mask)
    return result


def embedding(weight: Parameter, tokens: Tensor) -> Tensor:
    """``F.embedding``: rows of ``weight`` for each token; saves the token ids.

    Backward makes a dense gradient of the whole table. Beyond 3,072 tokens CUDA sorts the ids first
    (aten/src/ATen/native/cuda/Embedding.cu): two int64 copies of them while the gradient is made.
    """
    rows = weight.shape

    def run(node: Node, gradient: Tensor) -> Gradients:
        ids = node.saved_tensor()
        tape = gradient.tape
        row_major = None
        if not layout.is_contiguous(gradient.shape, gradient.strides):
            row_major = tape.empty(gradient.shape, gradient.dtype, "contiguous")
        table = tape.empty(rows, gradient.dtype, "embedding_dense_backward")
        if gradient.shape[0] * gradient.shape[1] > 3072 and tape.capability != HOST:
            _ = like(ids, "sorted_indices"), like(ids, "orig_indices")
        del row_major
        return (table,)

    node = begin(run, weight)
    if node is not None:
        node.save(weight.tape, tokens)
    return finish(node, weight.tape.empty((*tokens.shape, rows[1]), weight.dtype, "embedding"))
