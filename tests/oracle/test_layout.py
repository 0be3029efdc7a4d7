"""The rules of views and elementwise results against PyTorch's, on random shapes and strides."""

from __future__ import annotations

from math import prod
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.simulator import layout
from memplan.simulator.layout import Layout, Shape
from tests.oracle.libraries import library

torch = library("torch")

SIDES = st.integers(1, 4)


def meta(operand: Layout) -> Any:
    """A tensor of PyTorch with this shape and these strides, without memory."""
    shape, strides = operand
    return torch.empty_strided(shape, strides, device="meta")


def steps(shape: Shape, strides: Shape) -> Shape:
    """The strides that are ever walked: those of sides longer than one."""
    return tuple(stride for side, stride in zip(shape, strides, strict=True) if side > 1)


@st.composite
def layouts(draw: st.DrawFn, shape: Shape | None = None) -> Layout:
    """Dense memory in some order of axes, some of them expanded, or a slice of something wider."""
    sides = shape if shape is not None else tuple(draw(st.lists(SIDES, max_size=5)))
    order = draw(st.permutations(range(len(sides))))
    strides = [0] * len(sides)
    step = draw(st.sampled_from((1, 1, 1, 2)))
    for axis in order:
        strides[axis] = step
        step *= sides[axis] * draw(st.sampled_from((1, 1, 1, 1, 2)))
    for axis in range(len(sides)):
        if draw(st.integers(0, 7)) == 0:
            strides[axis] = 0
    return sides, tuple(strides)


@st.composite
def splits(draw: st.DrawFn, shape: Shape) -> Shape:
    """A shape of as many elements: neighbouring sides merged and split again."""
    target: list[int] = []
    pending = 1
    for side in shape:
        pending *= side
        if draw(st.booleans()):
            target.append(pending)
            pending = 1
    target.append(pending)
    found: list[int] = []
    for side in target:
        divisor = draw(st.sampled_from([n for n in range(1, side + 1) if side % n == 0]))
        found += [divisor, side // divisor] if draw(st.booleans()) else [side]
    return tuple(found)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_view_exists_exactly_where_pytorch_makes_one_and_has_its_strides(data: st.DataObject) -> None:
    shape, strides = data.draw(layouts())
    target = data.draw(splits(shape))
    ours = layout.view(shape, strides, target)
    try:
        theirs = meta((shape, strides)).view(target)
    except RuntimeError:
        assert ours is None
        return
    assert ours == theirs.stride()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_an_elementwise_result_is_laid_out_as_pytorch_lays_it_out(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(SIDES, min_size=1, max_size=4)))
    operands = [data.draw(layouts(shape)) for _ in range(data.draw(st.integers(1, 2)))]
    if data.draw(st.booleans()):
        narrow = tuple(data.draw(st.sampled_from((1, side))) for side in shape)
        operands.append(data.draw(layouts(narrow[data.draw(st.integers(0, len(shape) - 1)) :])))
    ours = layout.elementwise(*operands)
    theirs = (torch.neg, torch.mul, torch.addcmul)[len(operands) - 1](*map(meta, operands))
    assert ours[0] == tuple(theirs.shape)
    assert steps(*ours) == steps(ours[0], theirs.stride())


@settings(max_examples=300, deadline=None)
@given(layouts())
def test_contiguity_and_density_are_those_of_pytorch(operand: Layout) -> None:
    shape, strides = operand
    tensor = meta(operand)
    assert layout.is_contiguous(shape, strides) == tensor.is_contiguous()
    dense = torch.ops.aten.is_non_overlapping_and_dense
    assert layout.is_dense(shape, strides) == dense(tensor)
    assert layout.contiguous(shape) == torch.empty(shape, device="meta").stride()
    assert prod(shape) == tensor.numel()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_expanded_operand_has_the_strides_of_expand(data: st.DataObject) -> None:
    shape, strides = data.draw(layouts())
    target = tuple(side if side > 1 else data.draw(SIDES) for side in shape)
    target = (*data.draw(st.lists(SIDES, max_size=2)), *target)
    expanded = layout.expand(shape, strides, target)
    assert steps(target, expanded) == steps(target, meta((shape, strides)).expand(target).stride())
    assert layout.broadcast(shape, target) == target
