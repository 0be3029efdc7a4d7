"""Options of PyTorch's caching allocator in native configs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from memplan.dialects.fields import Value
from memplan.domain.allocator import SMALLEST_SPLIT_LIMIT, AllocatorOptions, divisions


def allocator(value: Value) -> AllocatorOptions:
    """``none``, the text of ``PYTORCH_CUDA_ALLOC_CONF``, or its options and ``memory_fraction``."""
    if value.is_null or value.written() == "none":
        return AllocatorOptions()
    if not value.written():
        entries = value.entries(tuple(ALLOCATOR))
        return AllocatorOptions(**{name: ALLOCATOR[name](entry) for name, entry in entries.items()})
    try:
        return AllocatorOptions.parse(value.word())
    except ValueError as error:
        raise value.fail(str(error), expected="options such as expandable_segments:True") from None


def _divisions(value: Value) -> tuple[int, ...]:
    try:
        return divisions(value.written())
    except ValueError as error:
        raise value.fail(str(error), expected="a power of two, or [256:1,512:2,>:8]") from None


ALLOCATOR: Mapping[str, Callable[[Value], Any]] = {
    "expandable_segments": Value.flag,
    "max_split_size_mb": lambda value: value.whole(SMALLEST_SPLIT_LIMIT + 1, 2**20),
    "roundup_power2_divisions": _divisions,
    "garbage_collection_threshold": lambda value: value.number(0, 1),
    "memory_fraction": lambda value: value.number(0.01, 1),
}
