"""Ops with several results (``chunk``, ``split``): one node that waits for the gradients of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Storage, Tensor

_RUNS_AT_ONCE = 1 << 61
"""Added to the sequence number of a result's own node: it only hands its gradient on."""


class _Nothing(Storage):
    """No memory at all."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def __del__(self) -> None:
        pass


def split_last(x: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """``x.split(widths, dim=-1)``."""
    return split(x, len(x.shape) - 1, widths)


def split(x: Tensor, axis: int, widths: Sequence[int]) -> list[Tensor]:
    """``x.split(widths, dim=axis)``, also what ``chunk`` does: views of ``x``, one after the other.

    Backward concatenates the gradients into a new tensor; a part without one counts as zeros
    (``split_with_sizes_backward`` in torch/csrc/autograd/FunctionsManual.cpp).
    """
    source = x.shape
    shapes = [(*source[:axis], width, *source[axis + 1 :]) for width in widths]
    waiting: list[Tensor | None] = [None] * len(widths)

    def run(_: Node, gradient: Tensor) -> Gradients:
        tape = gradient.tape
        missing = [shape for shape, found in zip(shapes, waiting, strict=True) if found is None]
        zeros = [tape.empty(shape, gradient.dtype, "zeros") for shape in missing]
        whole = tape.empty(source, gradient.dtype, "cat")
        del zeros
        # First to last, as a C++ vector does; assigning a slice would go backwards.
        for index in range(len(waiting)):
            waiting[index] = None
        return (whole,)

    node = begin(run, x)
    results = []
    for index, shape in enumerate(shapes):
        taken = x.alias(shape, x.strides)
        if node is not None:
            part(node, waiting, index, taken)
        results.append(taken)
    return results


def part(whole: Node, waiting: list[Tensor | None], index: int, result: Tensor) -> None:
    """Give one result a node of its own, which keeps its gradient until the others have arrived."""

    def run(_: Node, gradient: Tensor) -> Gradients:
        first = all(found is None for found in waiting)
        waiting[index] = gradient
        if not first:
            return (None,)
        # The engine runs the whole's node once it holds something for it.
        token = Tensor(gradient.tape, _Nothing(), gradient.shape, gradient.strides, gradient.dtype)
        whole.shape, whole.dtype = token.shape, token.dtype
        return (token,)

    node = Node(result.tape, run, (whole,))
    node.order += _RUNS_AT_ONCE
    finish(node, result)
