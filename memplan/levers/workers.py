"""Fewer DataLoader workers with fewer batches under way: host RAM alone, in the same order of batches."""

from __future__ import annotations

from typing import Any

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload

NAME = "workers"
SUMMARY = "fewer DataLoader workers, for runs that are short of host RAM"
HARM = Harm.EXACT

PREFETCH = 2
"""Batches that a worker prepares ahead unless told otherwise (torch/utils/data/dataloader.py)."""


def options(workload: Workload, target: Target | None) -> tuple[Option, ...]:
    """Fewer batches ahead, half the workers and half of those, none, and none without pinned memory.

    Only where the RAM of the target is known: on the GPU nothing changes.
    """
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN:
        return ()
    if target is None or target.ram is None:
        return ()
    return tuple(
        Option(changes=changes, harm=HARM, reason=reason)
        for changes, reason in _settings(workload)
        if changes
    )


def _settings(workload: Workload) -> list[tuple[dict[str, Any], str]]:
    use = workload.host
    ahead = {"host.prefetch": PREFETCH} if use.workers and use.prefetch > PREFETCH else {}
    found = [(ahead, f"{PREFETCH} batches per worker are prepared ahead, not {use.prefetch}")]
    for workers in _halved(use.workers):
        named = f"{workers} DataLoader worker{'s' if workers > 1 else ''} in host RAM, not {use.workers}"
        found.append(({"host.workers": workers} | ahead, named if workers else _ALONE))
    if use.pinned:
        none = found[-1][0]
        found.append((none | {"host.pinned": False}, "batches have no second copy in page-locked memory"))
    return found


_ALONE = "the training process loads its batches itself"


def _halved(workers: int) -> list[int]:
    """Half as many, and half of those, down to none."""
    found = []
    while workers:
        workers //= 2
        found.append(workers)
    return found
