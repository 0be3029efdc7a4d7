"""DeepSpeed's ``zero_optimization``: the settings that decide bytes, under shorter names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from memplan.domain.dtype import Dtype


class Place(StrEnum):
    """Where states or parameters lie that are not in use: on the GPU, in host RAM, or on a drive."""

    GPU = "gpu"
    CPU = "cpu"
    NVME = "nvme"


@dataclass(frozen=True, slots=True, kw_only=True)
class Zero:
    """Sizes are in elements. Defaults are DeepSpeed's (deepspeed/runtime/zero/config.py).

    ``reduce_bucket`` is how many gradient elements are reduced at a time, ``overlap`` says whether
    backward goes on meanwhile (``None``: at stage 3 only), ``communication`` in which dtype, if not the
    parameters'. ``prefetch_bucket``, ``persistence``, ``max_live`` and ``max_reuse`` are stage 3's limits
    of what is gathered ahead, kept whole, gathered in all, and kept for being used again so soon;
    ``sub_group`` is what its optimizer updates at a time. ``optimizer`` and ``parameters`` say where these
    lie, ``pinned`` whether host memory for them is page-locked.
    """

    reduce_bucket: int = 500_000_000
    overlap: bool | None = None
    contiguous: bool = True
    reduce_scatter: bool = True
    communication: Dtype | None = None
    prefetch_bucket: int = 50_000_000
    persistence: int = 100_000
    max_live: int = 1_000_000_000
    max_reuse: int = 1_000_000_000
    sub_group: int = 1_000_000_000
    optimizer: Place = Place.GPU
    parameters: Place = Place.GPU
    pinned: bool = True

    def overlaps(self, sharding: str) -> bool:
        """Whether gradients are reduced while backward goes on."""
        return sharding == "zero3" if self.overlap is None else self.overlap
