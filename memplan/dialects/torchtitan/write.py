"""Changed values as edits of a torchtitan job, or advice where it has no key for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from memplan.dialects import table, writing
from memplan.dialects.reading import FieldChange, Reading
from memplan.dialects.torchtitan.read import IMPLEMENTATION, LENGTH, MICRO
from memplan.documents.tree import MappingNode, Node, ScalarNode
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Checkpointing, Workload

_GLOBAL = "training.global_batch_size"
_TABLE = "activation_checkpoint"
_LOADER = {
    "workers": "training.dataloader.num_workers",
    "prefetch": "training.dataloader.prefetch_factor",
}


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """Batch sizes, sequences, checkpointing and the optimizer's implementation."""
    return table.edits(reading, changes, _WRITERS, "torchtitan")


def _batch(reading: Reading, after: Workload) -> list[Edit]:
    """The local batch; the global one is written down where it would change with it."""
    before, world = reading.workload.batch, reading.workload.world
    written = table.put(reading, MICRO.keys, after.batch.micro) if after.batch.micro != before.micro else []
    total = after.batch.micro * after.batch.accumulation * world.data_parallel
    if _number(reading, _GLOBAL) == total:
        return written
    if reading.origins["world.data_parallel"].how != "written" and reading.given.gpus is None:
        raise EditRefusedError(
            "global_batch_size has to be written then, and nothing says over how many GPUs: give --gpus N"
        )
    return [*written, *table.put(reading, (_GLOBAL,), total, ("local_batch_size", "batch_size"))]


def _number(reading: Reading, name: str) -> int | None:
    """What is written for the global batch; -1 leaves it open."""
    node = _at(reading.document.root, name)
    value = node.value if isinstance(node, ScalarNode) else None
    return value if isinstance(value, int) and value > 0 else None


def _at(root: Node, name: str) -> Node | None:
    found: Node | None = root
    for part in name.split("."):
        found = found.get(part) if isinstance(found, MappingNode) else None
    return found


def _checkpointing(reading: Reading, after: Workload) -> list[Edit]:
    wanted = after.checkpointing
    if wanted == reading.workload.checkpointing:
        return []
    if wanted != Checkpointing(every=wanted.every, start=max(0, wanted.every - 1)):
        raise EditRefusedError("torchtitan checkpoints the last of every few blocks, in the newer way")
    mode = {0: "none", 1: "full"}.get(wanted.every, "selective")
    values: dict[str, Any] = {"mode": mode}
    if mode == "selective":
        values["selective_ac_option"] = str(wanted.every)
    root = reading.document.root
    if isinstance(root, MappingNode) and root.item(_TABLE) is None:
        return writing.put(reading.document.source, root, _TABLE, values)
    found: list[Edit] = []
    for name, value in values.items():
        found += table.put(reading, (f"{_TABLE}.{name}",), value, ("mode",))
    return found


def _optimizer(reading: Reading, after: Workload) -> list[Edit]:
    """How the optimizer runs; which one it is stays."""
    before = reading.workload.optimizer
    if replace(before, implementation=after.optimizer.implementation) != after.optimizer:
        raise EditRefusedError("of an optimizer torchtitan's implementation is written")
    return table.writer(IMPLEMENTATION, beside=("name",))(reading, after)


def _host(reading: Reading, after: Workload) -> list[Edit]:
    """Workers and batches ahead, where the job says how many."""
    before, wanted = reading.workload.host, after.host
    if replace(before, workers=wanted.workers, prefetch=wanted.prefetch) != wanted:
        raise EditRefusedError("of the host only DataLoader workers are written")
    if not wanted.workers and _at(reading.document.root, _LOADER["prefetch"]) is not None:
        raise EditRefusedError("PyTorch takes prefetch_factor only with workers: remove it")
    found: list[Edit] = []
    for name in ("workers", "prefetch"):
        value = getattr(wanted, name)
        if value == getattr(before, name):
            continue
        if _at(reading.document.root, _LOADER[name]) is None:
            raise EditRefusedError(f"{_LOADER[name]} is not written, and not every release takes it")
        found += table.put(reading, (_LOADER[name],), value)
    return found


_WRITERS: dict[str, table.Writer] = {
    "batch": _batch,
    "host": _host,
    "sequence": table.writer(LENGTH, beside=("local_batch_size",)),
    "optimizer": _optimizer,
    "checkpointing": _checkpointing,
}
