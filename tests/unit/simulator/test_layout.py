"""Views and layouts by example; ``tests/oracle`` compares random ones with PyTorch."""

from __future__ import annotations

import pytest

from memplan.simulator import layout
from memplan.simulator.layout import Layout, Shape


@pytest.mark.parametrize(
    ("shape", "strides", "target", "expected"),
    [
        ((2, 3, 4), (12, 4, 1), (6, 4), (4, 1)),
        ((2, 3, 4), (12, 4, 1), (2, 12), (12, 1)),
        ((6, 4), (4, 1), (2, 3, 2, 2), (12, 4, 2, 1)),
        # Heads moved forward: rows and heads cannot be joined again without a copy.
        ((2, 3, 5, 4), (60, 4, 12, 1), (2, 3, 20), None),
        ((2, 3, 5, 4), (60, 4, 12, 1), (2, 3, 5, 2, 2), (60, 4, 12, 2, 1)),
        ((1, 5, 4), (999, 4, 1), (20,), (1,)),
        ((4, 1), (1, 7), (4,), (1,)),
        ((3, 4), (0, 1), (12,), None),
        ((3, 4), (0, 0), (12,), (0,)),
        ((), (), (1, 1), (1, 1)),
        ((1,), (1,), (), ()),
    ],
)
def test_a_shape_is_a_view_where_strides_allow(
    shape: Shape, strides: Shape, target: Shape, expected: Shape | None
) -> None:
    assert layout.view(shape, strides, target) == expected


@pytest.mark.parametrize(
    ("operands", "expected"),
    [
        ([((2, 3), (3, 1))], ((2, 3), (3, 1))),
        ([((2, 3), (1, 2))], ((2, 3), (1, 2))),
        ([((2, 3), (6, 2))], ((2, 3), (3, 1))),
        ([((2, 3), (3, 1)), ((3,), (1,))], ((2, 3), (3, 1))),
        ([((2, 1), (1, 1)), ((1, 3), (3, 1))], ((2, 3), (3, 1))),
        # The first operand decides.
        ([((2, 3), (1, 2)), ((2, 3), (3, 1))], ((2, 3), (1, 2))),
    ],
)
def test_an_elementwise_result_follows_the_memory_order_of_its_operands(
    operands: list[Layout], expected: Layout
) -> None:
    assert layout.elementwise(*operands) == expected


def test_dense_memory_has_neither_gaps_nor_overlaps() -> None:
    assert layout.is_dense((2, 3), (1, 2))
    assert not layout.is_dense((2, 3), (4, 1))
    assert not layout.is_dense((2, 3), (0, 1))
    assert layout.is_contiguous((1, 3), (99, 1))
    assert layout.contiguous((2, 3, 4)) == (12, 4, 1)
