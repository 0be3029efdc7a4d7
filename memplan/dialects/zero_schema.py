"""Native names of DeepSpeed's settings: the section ``zero``, for the stages of ZeRO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from memplan.dialects.fields import Value
from memplan.domain.zero import Place


def _elements(value: Value) -> int:
    return value.whole(0)


def _flag_or_default(value: Value) -> bool | None:
    return None if value.is_null else value.flag()


def _place(value: Value) -> Place:
    return value.member(Place)


ZERO: Mapping[str, Callable[[Value], Any]] = {
    **dict.fromkeys(("reduce_bucket", "prefetch_bucket", "sub_group"), _elements),
    **dict.fromkeys(("persistence", "max_live", "max_reuse"), _elements),
    **dict.fromkeys(("contiguous", "reduce_scatter", "pinned"), Value.flag),
    **dict.fromkeys(("optimizer", "parameters"), _place),
    "overlap": _flag_or_default,
    "communication": lambda value: None if value.is_null or value.written() == "params" else value.dtype(),
}
"""How each setting is read; sizes are in elements."""
