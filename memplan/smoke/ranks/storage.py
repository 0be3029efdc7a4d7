"""How many bytes tensors really take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def storages(tensors: Iterable[Any]) -> int:
    """Bytes behind tensors, or behind this rank's parts of them; what several share is counted once."""
    found: dict[int, int] = {}
    for tensor in tensors:
        own = getattr(tensor, "_local_tensor", tensor)
        storage = own.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())
