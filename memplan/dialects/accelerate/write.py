"""Changed values as edits of an accelerate config, by itself or beside the training config it launches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from memplan.dialects import table
from memplan.dialects.accelerate.shardings import ACCUMULATION, CHECKPOINTING, OFFLOADS, RESHARDS, STAGE
from memplan.dialects.reading import FieldChange, Reading
from memplan.dialects.zero.engine import both_zero, stage_of
from memplan.dialects.zero.settings import device
from memplan.documents.tree import MappingNode, Node, ScalarNode
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Checkpointing, Workload


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits of keys that are written; none is inserted."""
    return table.edits(reading, changes, _WRITERS, "accelerate")


def _batch(reading: Reading, after: Workload) -> list[Edit]:
    before = reading.workload.batch
    if reading.dialect == "accelerate" and after.batch.micro != before.micro:
        raise EditRefusedError("accelerate's config has no micro-batch: the training config decides it")
    node = _written(reading, ACCUMULATION)
    if after.batch.accumulation == before.accumulation:
        return []
    if not isinstance(node, ScalarNode) or not isinstance(node.value, int):
        raise EditRefusedError("accelerate's config leaves accumulation to the training config")
    return table.put(reading, (ACCUMULATION,), after.batch.accumulation)


def _world(reading: Reading, after: Workload) -> list[Edit]:
    before, wanted = reading.workload.world, after.world
    places = {field: getattr(wanted.zero, field) for field in OFFLOADS}
    same = replace(
        before,
        sharding=wanted.sharding,
        reshard_after_forward=wanted.reshard_after_forward,
        zero=replace(before.zero, **places),
    )
    if same != wanted:
        raise EditRefusedError("accelerate's config has no key for it that memplan writes")
    found: list[Edit] = []
    if before.sharding != wanted.sharding:
        if not both_zero(before.sharding, wanted.sharding):
            raise EditRefusedError("another kind of sharding needs other settings: change it by hand")
        found += _replaced(reading, STAGE, stage_of(wanted.sharding))
    if before.reshard_after_forward != wanted.reshard_after_forward:
        if before.sharding != "fsdp2":
            raise EditRefusedError("only FSDP2 has fsdp_reshard_after_forward: true or false")
        found += _replaced(reading, RESHARDS, wanted.reshard_after_forward)
    for field, name in OFFLOADS.items():
        if getattr(before.zero, field) is not places[field]:
            found += _replaced(reading, name, device(places[field]))
    return found


def _checkpointing(reading: Reading, after: Workload) -> list[Edit]:
    if after.checkpointing not in (Checkpointing(), Checkpointing(every=1)):
        raise EditRefusedError("FSDP checkpoints every block or none")
    if after.checkpointing == reading.workload.checkpointing:
        return []
    return _replaced(reading, CHECKPOINTING, after.checkpointing.every == 1)


def _replaced(reading: Reading, name: str, value: object) -> list[Edit]:
    if _written(reading, name) is None:
        raise EditRefusedError(f"{name} is not written, and releases differ in the keys they take")
    return table.put(reading, (name,), value)


def _written(reading: Reading, name: str) -> Node | None:
    node: Node | None = reading.document.root
    for part in name.split("."):
        node = node.get(part) if isinstance(node, MappingNode) else None
    return node


_WRITERS: Mapping[str, table.Writer] = {
    "batch": _batch,
    "world": _world,
    "checkpointing": _checkpointing,
}
