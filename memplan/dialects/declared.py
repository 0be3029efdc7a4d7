"""Tensors somebody declared, because memplan does not know their model."""

from __future__ import annotations

import re
from collections.abc import Collection

from memplan.dialects.fields import LARGEST_COUNT, Value
from memplan.documents.tree import ScalarNode
from memplan.domain.architecture import DeclaredTensor, Role
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype

KEYS = ("shape", "dtype", "bytes", "per", "role")
MOST_SIDES = 8
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", re.ASCII)


def check_name(name: str, value: Value) -> None:
    """Refuse a name that is no identifier.

    Raises:
        FieldError: it has other characters than letters, digits, ``_`` and ``-``, or more than 64.
    """
    if not _NAME.fullmatch(name):
        raise value.fail("is no name", expected="letters, digits, _ and -, at most 64 of them")


def tensors(value: Value, names: Collection[str]) -> tuple[DeclaredTensor, ...]:
    """Every tensor of ``model.tensors``; ``names`` are the declared values that may size them.

    Raises:
        FieldError: at the entry that is wrong.
    """
    found = []
    for name, entry in value.entries().items():
        check_name(name, entry)
        found.append(_tensor(name, entry, names))
    if not found:
        raise value.fail("declares nothing", expected="NAME: {shape: [...], dtype: fp32, role: weight}")
    return tuple(found)


def _tensor(name: str, value: Value, names: Collection[str]) -> DeclaredTensor:
    entries = value.entries(KEYS)
    if "shape" not in entries and "bytes" not in entries and "per" not in entries:
        raise value.fail("has no size", expected="shape: [rows, columns], or bytes: 400MB, or both")
    if "dtype" in entries and "shape" not in entries:
        raise entries["dtype"].fail("is given without a shape")
    return DeclaredTensor(
        name=name,
        role=entries["role"].member(Role) if "role" in entries else Role.WEIGHT,
        shape=_shape(entries["shape"], names) if "shape" in entries else (),
        dtype=entries["dtype"].dtype() if "dtype" in entries else Dtype.FP32,
        fixed=entries["bytes"].amount() if "bytes" in entries else Bytes(0),
        per=_per(entries["per"], names) if "per" in entries else (),
    )


def _shape(value: Value, names: Collection[str]) -> tuple[int | str, ...]:
    sides = tuple(_side(item, names) for item in value.items())
    if not 1 <= len(sides) <= MOST_SIDES:
        raise value.fail(f"has {len(sides)} sides", expected=f"1 to {MOST_SIDES} numbers or names of values")
    return sides


def _side(value: Value, names: Collection[str]) -> int | str:
    if isinstance(value.node, ScalarNode) and isinstance(value.node.value, str):
        return value.choice(names)
    return value.whole(1, LARGEST_COUNT)


def _per(value: Value, names: Collection[str]) -> tuple[tuple[str, Bytes], ...]:
    return tuple((name, entry.amount()) for name, entry in value.entries(tuple(names)).items())
