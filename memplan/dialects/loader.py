"""How PyTorch's DataLoader is told to work, in frameworks that build on the Trainer: three keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from memplan.dialects.reading import Reading
from memplan.dialects.table import Writer, put
from memplan.documents.tree import MappingNode, Node
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Workload

KEYS = ("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory")
PREFETCH = 2
"""Batches that a worker prepares ahead when nothing is said."""


def writer(prefix: str = "", beside: Sequence[str] = (), workers: int = 0) -> Writer:
    """A writer of the keys under a dotted prefix (``"training."``).

    ``workers`` are there where their number is not said.
    """
    return partial(_write, prefix, beside, workers)


def _write(prefix: str, beside: Sequence[str], workers: int, reading: Reading, after: Workload) -> list[Edit]:
    """Edits of what is written or differs from what holds otherwise.

    The Trainer refuses ``dataloader_prefetch_factor`` without workers (``__post_init__`` of its
    ``TrainingArguments``), so there it becomes null.

    Raises:
        EditRefusedError: something else of the host changes, or batches are to wait for nobody.
    """
    before, wanted = reading.workload.host, after.host
    if wanted == before:
        return []
    counted = replace(before, workers=wanted.workers, prefetch=wanted.prefetch, pinned=wanted.pinned)
    if counted != wanted:
        raise EditRefusedError("of the host only DataLoader workers are written")
    names = [f"{prefix}{key}" for key in KEYS]
    usual_ones = (before.workers, before.prefetch) == (workers, PREFETCH)
    alone = (wanted.workers, wanted.prefetch) == (before.workers, before.prefetch)
    if alone and (usual_ones or any(_given(reading, name) for name in names)):
        return put(reading, names[2:], wanted.pinned, (*names, *beside))
    if not wanted.workers and wanted.prefetch != PREFETCH:
        raise EditRefusedError("without workers nothing is prepared ahead")
    ahead = wanted.prefetch if wanted.workers else None
    fewer = None if wanted.workers != before.workers else workers  # a number that changes is always said
    asked = zip(names, (wanted.workers, ahead, wanted.pinned), (fewer, PREFETCH, True), strict=True)
    found: list[Edit] = []
    for name, value, usual in asked:
        if (value is not None and value != usual) or _given(reading, name):
            found += put(reading, (name,), value, (*names, *beside))
    return found


def _given(reading: Reading, name: str) -> bool:
    """Whether a dotted key is written and not empty."""
    node: Node | None = reading.document.root
    for part in name.split("."):
        node = node.get(part) if isinstance(node, MappingNode) else None
    return node is not None and getattr(node, "value", node) is not None
