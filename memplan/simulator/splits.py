"""Ops with several results (``chunk``, ``split``): one node that waits for the gradients of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor

_RUNS_AT_ONCE = 1 << 61
"""Added to the sequence number of a result's own node: it only hands its gradient on."""


def split_last(x: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """``x.split(widths, dim=-1)``, also what ``chunk`` does: views of ``x``, one after the other.

    Backward concatenates the gradients into a new tensor; a part without one counts as zeros
    (``split_with_sizes_backward`` in torch/csrc/autograd/FunctionsManual.cpp).
    """
    source = x.shape
    waiting: list[Tensor | None] = [None] * len(widths)

    def run(_: Node, gradient: Tensor) -> Gradients:
        tape = gradient.tape
        missing = [width for width, found in zip(widths, waiting, strict=True) if found is None]
        zeros = [tape.empty((*source[:-1], width), gradient.dtype, "zeros") for width in missing]
        whole = tape.empty(source, gradient.dtype, "cat")
        del zeros
        waiting[:] = [None] * len(widths)
        return (whole,)

    node = begin(run, x)
    results = []
    for index, width in enumerate(widths):
        part = x.alias((*source[:-1], width), x.strides)
        if node is not None:
            _part(node, waiting, index, part)
        results.append(part)
    return results


def _part(whole: Node, waiting: list[Tensor | None], index: int, result: Tensor) -> None:
    """Give one result a node of its own, which keeps its gradient until the others have arrived."""

    def run(_: Node, gradient: Tensor) -> Gradients:
        first = all(found is None for found in waiting)
        waiting[index] = gradient
        if not first:
            return (None,)
        # The engine runs the whole's node once it holds a gradient for it: any one will do.
        whole.shape, whole.dtype = gradient.shape, gradient.dtype
        return (gradient,)

    node = Node(result.tape, run, (whole,))
    node.order += _RUNS_AT_ONCE
    finish(node, result)
