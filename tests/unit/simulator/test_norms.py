"""Layer norms on a GPU: what a CPU's step cannot show."""

from __future__ import annotations

import pytest

from memplan.domain.dtype import Dtype
from memplan.simulator.autograd import Leaf, run_graph
from memplan.simulator.norms import layer_norm
from memplan.simulator.tensor import Parameter, Tape


def sizes(rows: int, width: int) -> list[tuple[str, tuple[int, ...]]]:
    """What the backward pass of one norm allocates, in order."""
    tape = Tape((8, 0))
    x = tape.empty((rows, width), Dtype.BF16, "x")
    weights = [Parameter(tape, (width,), Dtype.BF16, "blocks", name) for name in ("weight", "bias")]
    for weight in weights:
        weight.node = Leaf(weight, weight.name)
    result = layer_norm(x, *weights)
    start = len(tape.trace.sizes)
    assert result.node is not None
    run_graph(result.node, tape.empty(result.shape, Dtype.BF16, "gradient"))
    return [(tag[2], tag[3]) for tag in tape.trace.tags[start + 1 :]]


@pytest.mark.parametrize(
    ("rows", "width", "parts"),
    [(65_536, 768, None), (65_537, 768, 1365), (65_537, 96, 2049), (65_537, 1728, None)],
)
def test_narrow_weights_are_summed_in_parts_over_many_rows(rows: int, width: int, parts: int | None) -> None:
    plain: list[tuple[str, tuple[int, ...]]] = [("grad", (width,))] * 2
    if parts is not None:
        plain += [("partial_sums", (parts, width))] * 2 + [("grad", (width,))] * 2
    found = [(op if op == "partial_sums" else "grad", shape) for op, shape in sizes(rows, width)]
    assert found == plain
