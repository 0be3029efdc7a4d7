"""Choosing, sorting and looking up rows: what routing tokens to experts is made of.

What CUDA allocates for bookkeeping follows aten/src/ATen/native/cuda: Sort.cu, Indexing.cu and the cub
wrappers of cub.cuh; ``cub`` sorts out of place and asks for a second copy of keys and values.
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor

_SORTED_IN_ONE_BLOCK = 4096
"""Longest row that ``sort`` handles within one thread block, in place (``should_use_small_sort``)."""


def integers(like: Tensor, shape: tuple[int, ...], op: str, dtype: Dtype = Dtype.INT64) -> Tensor:
    """Indices or counts, which never need a gradient."""
    return like.tape.empty(shape, dtype, op)


def topk(x: Tensor, chosen: int) -> tuple[Tensor, Tensor]:
    """``x.topk(chosen, dim=-1)``: values and int64 indices; backward scatters into zeros of ``x``'s shape."""
    source = x.shape

    def run(node: Node, gradient: Tensor) -> Gradients:
        _ = node.unpack()
        return (gradient.tape.empty(source, gradient.dtype, "value_selecting_backward"),)

    node = begin(run, x)
    values = finish(node, x.tape.empty((*source[:-1], chosen), x.dtype, "topk"))
    indices = integers(x, values.shape, "topk_indices")
    if node is not None:
        node.save(x.tape, indices)
    return values, indices


def _gather(node: Node, gradient: Tensor) -> Gradients:
    x, index = node.unpack()
    assert x is not None
    assert index is not None
    return (gradient.tape.empty(x.shape, gradient.dtype, "gather_backward"),)


def as_bool(x: Tensor) -> Tensor:
    """``x.bool()``, or the opposite of one that is: a byte per element."""
    return ops.like(x, "bool", Dtype.BOOL)


def _masked_fill(node: Node, gradient: Tensor) -> Gradients:
    _ = node.unpack()
    return (ops.like(gradient, "masked_fill"),)


def masked_fill(x: Tensor, mask: Tensor) -> Tensor:
    """``x.masked_fill(mask, number)``: saves the mask."""
    node = begin(_masked_fill, x)
    if node is not None:
        node.save(x.tape, mask)
    return finish(node, ops.like(x, "masked_fill"))


def gather_last(x: Tensor, index: Tensor) -> Tensor:
    """``x.gather(-1, index)``: saves both; backward scatters into zeros."""
    node = begin(_gather, x)
    if node is not None:
        node.save(x.tape, x, index)
    return finish(node, x.tape.empty(index.shape, x.dtype, "gather"))


def sort(x: Tensor) -> tuple[Tensor, Tensor]:
    """``torch.sort`` of a vector of integers: sorted values and int64 positions."""
    values, positions = ops.like(x, "sort"), integers(x, x.shape, "sort_positions")
    if x.shape[0] > _SORTED_IN_ONE_BLOCK:
        _initial = integers(x, x.shape, "sort_range")
        _ = _radix_sort(x)
    return values, positions


def _radix_sort(keys: Tensor) -> Tensor:
    """cub's temporary storage for sorting int64 keys with int64 values."""
    return integers(keys, (2, *keys.shape), "radix_sort")


def _index_put(node: Node, gradient: Tensor) -> Gradients:
    # index_put_with_sort_kernel: positions are wrapped and made linear, then sorted so that equal ones meet.
    (index,) = node.unpack()
    assert index is not None
    tape = gradient.tape
    (source,) = node.edges
    assert source is not None
    result = tape.empty(source.shape, gradient.dtype, "index_backward")
    wrapped = integers(index, index.shape, "index_remainder")
    linear = integers(index, index.shape, "index_linear")
    del wrapped
    order = [integers(index, index.shape, name) for name in ("index_sorted", "index_order", "index_range")]
    _ = _radix_sort(index)
    del order, linear
    return (result,)


def rows(x: Tensor, index: Tensor) -> Tensor:
    """``x[index]``: the rows that an int64 vector names; backward adds them up in zeros of ``x``'s shape."""
    node = begin(_index_put, x)
    if node is not None:
        node.save(x.tape, index)
    return finish(node, x.tape.empty((*index.shape, *x.shape[1:]), x.dtype, "index"))
