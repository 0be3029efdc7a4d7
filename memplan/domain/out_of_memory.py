"""The allocation a run dies of, with the figures PyTorch prints."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.bytes import Bytes
from memplan.domain.trace import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfMemory:
    """``tried`` bytes were asked of the driver in ``phase``, for ``tensor``, when ``free`` were left.

    ``allowed`` is the process's share if it was given one; ``certain`` says that nothing that is not
    modelled could avert it.

    ``in_use`` is what the process holds, its context included; ``allocated`` and ``cached`` are PyTorch's.
    """

    tried: Bytes
    capacity: Bytes
    free: Bytes
    in_use: Bytes
    allocated: Bytes
    cached: Bytes
    phase: Phase
    tensor: str
    allowed: Bytes | None = None
    certain: bool = False

    @property
    def message(self) -> str:
        """PyTorch's own words (``DeviceCachingAllocator::malloc`` in c10/cuda/CUDACachingAllocator.cpp)."""
        allowed = f"{_size(self.allowed)} allowed; " if self.allowed is not None else ""
        return (
            f"CUDA out of memory. Tried to allocate {_size(self.tried)}. GPU 0 has a total capacity of "
            f"{_size(self.capacity)} of which {_size(self.free)} is free. Including non-PyTorch memory, "
            f"this process has {_size(self.in_use)} memory in use. {allowed}Of the allocated memory "
            f"{_size(self.allocated)} is allocated by PyTorch, and {_size(self.cached)} is reserved by "
            f"PyTorch but unallocated."
        )


def _size(amount: int) -> str:
    """``format_size`` of the allocator: two decimals from KiB on."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if amount > factor:
            return f"{amount / factor:.2f} {unit}"
    return f"{int(amount)} bytes"
