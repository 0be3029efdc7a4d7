"""States of bitsandbytes' paged optimizers, which lie in unified memory and so in no trace."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from memplan.domain.workload import Optimizer
from memplan.simulator.optimizers.bitsandbytes import SMALLEST_8BIT, SMALLEST_PAGED


def paged(optimizer: Optimizer, trained: Iterable[tuple[int, ...]]) -> list[int]:
    """Bytes of each paged state, for trained parameters of these shapes; empty if it pages nothing.

    Source: ``get_state_buffer`` in bitsandbytes bitsandbytes/optim/optimizer.py (0.50).
    """
    if not optimizer.name.startswith("paged"):
        return []
    moments = 1 if "lion" in optimizer.name else 2
    sizes: list[int] = []
    for size in map(prod, trained):
        if size >= SMALLEST_PAGED:
            small = "8bit" in optimizer.name and size >= SMALLEST_8BIT
            sizes += [size * (1 if small else 4)] * moments
    return sizes
