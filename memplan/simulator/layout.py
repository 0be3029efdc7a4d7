"""Shapes and strides: the rules that decide whether an op makes a view or a copy.

All functions are pure and cached: the blocks of a model ask the same questions over and over.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

Shape = tuple[int, ...]
Layout = tuple[Shape, Shape]

_cached = lru_cache(maxsize=4096)


@_cached
def contiguous(shape: Shape) -> Shape:
    """Row-major strides of a shape, in elements."""
    strides = []
    step = 1
    for side in reversed(shape):
        strides.append(step)
        step *= max(side, 1)
    return tuple(reversed(strides))


@_cached
def is_contiguous(shape: Shape, strides: Shape) -> bool:
    """Whether the strides are row-major, ignoring sides of length one."""
    step = 1
    for side, stride in zip(reversed(shape), reversed(strides), strict=True):
        if side != 1:
            if stride != step:
                return False
            step *= side
    return True


@_cached
def is_dense(shape: Shape, strides: Shape) -> bool:
    """Whether the elements fill a block of memory without gaps or overlaps, in any order."""
    step = 1
    for stride, side in sorted(
        (stride, side) for side, stride in zip(shape, strides, strict=True) if side != 1
    ):
        if stride != step:
            return False
        step *= side
    return True


@_cached
def view(shape: Shape, strides: Shape, target: Shape) -> Shape | None:
    """Strides of ``target`` as a view of a tensor, or ``None`` when only a copy can have that shape.

    ATen's ``computeStride``: walk both shapes from the right, one contiguous chunk of the source at a time.
    """
    if not shape:
        return (1,) * len(target)
    result = [0] * len(target)
    position = len(target) - 1
    chunk_stride = strides[-1]
    chunk = taken = 1
    for axis in range(len(shape) - 1, -1, -1):
        chunk *= shape[axis]
        ends = axis == 0 or (shape[axis - 1] != 1 and strides[axis - 1] != chunk * chunk_stride)
        if not ends:
            continue
        while position >= 0 and (taken < chunk or target[position] == 1):
            result[position] = taken * chunk_stride
            taken *= target[position]
            position -= 1
        if taken != chunk:
            return None
        if axis:
            chunk_stride = strides[axis - 1]
            chunk = taken = 1
    return tuple(result) if position == -1 else None


@_cached
def has_rows(shape: Shape, strides: Shape) -> bool:
    """Whether all axes but the last can be viewed as one."""
    return view(shape, strides, (prod(shape[:-1]), shape[-1])) is not None


@_cached
def broadcast(first: Shape, second: Shape) -> Shape:
    """The shape two operands broadcast to."""
    if first == second:
        return first
    width = max(len(first), len(second))
    left = (1,) * (width - len(first)) + first
    right = (1,) * (width - len(second)) + second
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))


@_cached
def elementwise(*operands: Layout) -> Layout:
    """Shape and strides of an elementwise result, as ATen's ``TensorIterator`` lays it out."""
    first = operands[0]
    if all(operand == first for operand in operands) and is_dense(*first):
        return first
    shape: Shape = ()
    for operand_shape, _ in operands:
        shape = broadcast(shape, operand_shape)
    order = _memory_order(shape, [_expanded(shape, operand) for operand in operands])
    strides = [0] * len(shape)
    step = 1
    for axis in order:
        strides[axis] = step
        step *= shape[axis]
    return shape, tuple(strides)


@_cached
def expand(shape: Shape, strides: Shape, target: Shape) -> Shape:
    """Strides of an operand broadcast to ``target``: 0 along broadcast axes."""
    return _expanded(target, (shape, strides))


def _expanded(target: Shape, operand: Layout) -> Shape:
    shape, strides = operand
    missing = len(target) - len(shape)
    sides = zip(shape, strides, target[missing:], strict=True)
    return (0,) * missing + tuple(0 if side == 1 and wide != 1 else stride for side, stride, wide in sides)


def _memory_order(shape: Shape, strides: list[Shape]) -> list[int]:
    """Axes from fastest to slowest, by insertion sort on the operands' strides (``reorder_dimensions``)."""
    order = list(range(len(shape) - 1, -1, -1))
    for start in range(1, len(order)):
        here = start
        for other in range(start - 1, -1, -1):
            verdict = _slower(order[other], order[here], shape, strides)
            if verdict > 0:
                order[other], order[here] = order[here], order[other]
                here = other
            elif verdict < 0:
                break
    return order


def _slower(left: int, right: int, shape: Shape, strides: list[Shape]) -> int:
    """1 when axis ``left`` is the slower one, -1 when the faster, 0 when strides do not tell."""
    for operand in strides:
        a, b = operand[left], operand[right]
        if a == 0 or b == 0:
            continue
        if a != b:
            return 1 if a > b else -1
        if shape[left] > shape[right]:
            return 1
    return 0
