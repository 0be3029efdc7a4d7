"""PyTorch's out-of-memory message, read back into figures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from memplan.domain.bytes import Bytes

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SIZE = r"([\d.]+) (bytes|KiB|MiB|GiB)"
_FIGURES = {
    "tried": rf"Tried to allocate {_SIZE}",
    "capacity": rf"total capacity of {_SIZE}",
    "free": rf"of which {_SIZE} is free",
    "in_use": rf"this process has {_SIZE} memory in use",
    "allowed": rf"{_SIZE} allowed;",
    "allocated": rf"Of the allocated memory {_SIZE} is allocated by PyTorch",
    "cached": rf"and {_SIZE} is reserved by PyTorch but unallocated",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the message says, rounded as it rounds: to a hundredth of the unit. None is not in it.

    The fields are those of ``memplan.domain.out_of_memory.OutOfMemory``, which writes the same message.
    """

    tried: Bytes | None = None
    capacity: Bytes | None = None
    free: Bytes | None = None
    in_use: Bytes | None = None
    allowed: Bytes | None = None
    allocated: Bytes | None = None
    cached: Bytes | None = None


def figures(message: str) -> Figures:
    """Read the words of ``DeviceCachingAllocator::malloc`` (c10/cuda/CUDACachingAllocator.cpp).

    Which of them are there depends on the release, and on whether a share was set for the process.
    """
    found: dict[str, Bytes] = {}
    for name, pattern in _FIGURES.items():
        if match := re.search(pattern, message):
            found[name] = Bytes(round(float(match[1]) * _UNITS[match[2]]))
    return Figures(**found)


def first_sentences(message: str) -> str:
    """The message without its advice on settings, on one line."""
    return " ".join(message.split()).partition(" If reserved but unallocated")[0]
