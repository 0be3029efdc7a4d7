"""Matrix products: linear layers and batched products, with autocast's casts and its weight cache."""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.simulator import layout, ops, shapes
from memplan.simulator.autograd import Gradients, Leaf, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def cast(x: Tensor) -> Tensor:
    """``x`` in autocast's dtype, if a region is active.

    The copy of a trainable fp32 parameter is kept until the region ends
    (``cached_cast`` in aten/src/ATen/autocast_mode.cpp).
    """
    dtype = x.tape.autocast
    if dtype is None or x.dtype is dtype or x.dtype is Dtype.FP64:
        return x
    if not isinstance(x.node, Leaf) or x.dtype is not Dtype.FP32:
        return ops.to(x, dtype)
    casts = x.tape.casts
    if id(x) not in casts:
        casts[id(x)] = ops.to(x, dtype)
    return casts[id(x)]


def _of_input(gradient: Tensor, weight: Tensor | None) -> Tensor | None:
    """``grad @ weight``, made as a matrix; for an input of more axes handed on as a view of it."""
    if weight is None:
        return None
    shape = (*gradient.shape[:-1], weight.shape[1])
    product = gradient.tape.empty(shape, gradient.dtype, "mm")
    return product if len(shape) == 2 else product.alias(shape, product.strides)


def _of_weight(gradient: Tensor, x: Tensor | None) -> Tensor | None:
    """``grad.T @ x``, transposed: a view too."""
    if x is None:
        return None
    product = gradient.tape.empty((gradient.shape[-1], x.shape[-1]), gradient.dtype, "mm")
    return product.alias(product.shape, product.strides)


def _linear(node: Node, gradient: Tensor) -> Gradients:
    # MmBackward: the weight's gradient first (alphabetical: mat2, self).
    x, weight = node.unpack()
    gradient.tape.take_workspace()
    of_weight = _of_weight(gradient, x)
    return _of_input(gradient, weight), of_weight


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``: ``x`` (…, in), ``weight`` (out, in), ``bias`` (out), which is fused (``addmm``)."""
    # Autocast casts the arguments of a call from the last to the first, as compilers evaluate them.
    bias = None if bias is None else cast(bias)
    weight, x = cast(weight), cast(x)
    if bias is not None:
        return _fused(x, weight, bias)
    node = begin(_linear, x, weight)
    if node is not None:
        node.flattens = len(x.shape) > 2
        node.save(x.tape, x if node.edges[1] else None, weight if node.edges[0] else None)
    x.tape.take_workspace()
    return finish(node, x.tape.empty((*x.shape[:-1], weight.shape[0]), x.dtype, "linear"))


def rows(x: Tensor) -> Tensor:
    """What a product with a trained matrix reads: a copy if the rows of ``x`` do not follow one another.

    With a frozen one it multiplies in batches instead (``should_fold`` in aten's LinearAlgebra.cpp).
    """
    return x if layout.has_rows(x.shape, x.strides) else ops.clone(x)


def _fused(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer with a bias: on the input as a matrix (``_flatten_nd_linear`` in aten's Linear.cpp).

    Its gradient therefore reaches the input one op later than the weight's reaches the weight.
    """
    flat = x if len(x.shape) == 2 else shapes.view(x, (prod(x.shape[:-1]), x.shape[-1]))
    node = begin(_addmm, flat, weight, bias)
    if node is not None:
        node.save(x.tape, flat if node.edges[1] else None, weight if node.edges[0] else None)
    x.tape.take_workspace("cublaslt")
    product = finish(node, x.tape.empty((flat.shape[0], weight.shape[0]), x.dtype, "linear"))
    return product if flat is x else shapes.view(product, (*x.shape[:-1], weight.shape[0]))


def _addmm(node: Node, gradient: Tensor) -> Gradients:
    # AddmmBackward: the input's gradient first (alphabetical: mat1, mat2, self). The bias' gradient is
    # the incoming one, summed by the engine.
    x, weight = node.unpack()
    gradient.tape.take_workspace()
    return _of_input(gradient, weight), _of_weight(gradient, x), gradient


def _bmm(node: Node, gradient: Tensor) -> Gradients:
    a, b = node.unpack()
    tape = gradient.tape
    tape.take_workspace()
    batch, rows, columns = gradient.shape
    of_a = of_b = None
    if a is not None:
        of_b = tape.empty((batch, a.shape[2], columns), gradient.dtype, "bmm")
    if b is not None:
        of_a = tape.empty((batch, rows, b.shape[1]), gradient.dtype, "bmm")
    return of_a, of_b


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """``torch.matmul`` of two tensors with the same leading axes (…, n, k) and (…, k, m).

    Both are reshaped to three axes, which copies what cannot be viewed so.
    """
    # What was cast lives until the product is there.
    right, left = cast(b), cast(a)
    lead = left.shape[:-2]
    batch = prod(lead)
    a = shapes.view(left, (batch, *left.shape[-2:]))
    b = shapes.view(right, (batch, *right.shape[-2:]))
    node = begin(_bmm, a, b)
    if node is not None:
        node.save(a.tape, a if node.edges[1] else None, b if node.edges[0] else None)
    a.tape.take_workspace()
    product = finish(node, a.tape.empty((batch, a.shape[1], b.shape[2]), a.dtype, "bmm"))
    return shapes.view(product, (*lead, a.shape[1], b.shape[2]))
