"""Which elements of which parameters each GPU owns when DeepSpeed flattens them: arithmetic only.

Sizes are in elements. Source: ``__init__``, ``get_partition_info`` and ``initialize_gradient_partition`` of
``DeepSpeedZeroOptimizer`` in deepspeed/runtime/zero/stage_1_and_2.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

ALIGNMENT = 2
"""Elements that each partition's start is aligned to (``nccl_start_alignment_factor``)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Parameters of these sizes one after the other, cut into ``count`` partitions of equal size."""

    sizes: tuple[int, ...]
    count: int

    @property
    def padded(self) -> int:
        """Elements of the flat buffer."""
        unit = ALIGNMENT * self.count
        return -(-sum(self.sizes) // unit) * unit

    @property
    def partition(self) -> int:
        """Elements of one partition."""
        return self.padded // self.count

    def starts(self) -> list[int]:
        """Where each parameter begins in the flat buffer."""
        return [0, *accumulate(self.sizes)][:-1]

    def owned(self, rank: int) -> list[tuple[int, int]]:
        """The parameters that reach into a GPU's partition, and how many of their elements are in it."""
        first, last = rank * self.partition, (rank + 1) * self.partition
        found = []
        for index, start in enumerate(self.starts()):
            inside = min(last, start + self.sizes[index]) - max(first, start)
            if inside > 0:
                found.append((index, inside))
        return found

    def heaviest(self) -> int:
        """The GPU whose partition touches the largest parameters: of these it keeps whole gradients."""
        held = [sum(self.sizes[index] for index, _ in self.owned(rank)) for rank in range(self.count)]
        return held.index(max(held))

    def slices(self, indices: Iterable[int], starts: Sequence[int]) -> list[tuple[int, int]]:
        """Parameters cut where their owner changes: owners and sizes, in order."""
        found: list[tuple[int, int]] = []
        for index in indices:
            start, end = starts[index], starts[index] + self.sizes[index]
            while start < end:
                rank = start // self.partition
                stop = min(end, (rank + 1) * self.partition)
                found.append((rank, stop - start))
                start = stop
        return found


def merged(slices: Sequence[tuple[int, int]], alone: int | None = None) -> list[int]:
    """Sizes of slices, those next to each other of the same owner together, unless ``alone``."""
    found: list[int] = []
    owner: int | None = None
    for rank, size in slices:
        if rank == owner and rank != alone:
            found[-1] += size
        else:
            found.append(size)
        owner = rank
    return found
