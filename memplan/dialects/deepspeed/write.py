"""Changed values as edits of a DeepSpeed config, by itself or beside the training config that names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from memplan.dialects import table, writing
from memplan.dialects.reading import FieldChange, Reading
from memplan.dialects.zero import batch
from memplan.dialects.zero.engine import both_zero, stage_of
from memplan.dialects.zero.settings import FLAGS, PLACES, SIZES, device
from memplan.documents.tree import MappingNode
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Workload
from memplan.domain.zero import Zero

_COMMUNICATION = "communication_data_type"


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits: batch sizes together, and the settings of ``zero_optimization``."""
    return table.edits(reading, changes, _WRITERS, "DeepSpeed")


def _world(reading: Reading, after: Workload) -> list[Edit]:
    before, wanted = reading.workload.world, after.world
    if replace(before, sharding="", zero=wanted.zero) != replace(wanted, sharding=""):
        raise EditRefusedError("DeepSpeed has no key for it: it is said where the run is launched")
    if before.sharding != wanted.sharding and not both_zero(before.sharding, wanted.sharding):
        raise EditRefusedError("with and without ZeRO are different optimizers: change the stage by hand")
    root, source = reading.document.root, reading.document.source
    zero = root.get("zero_optimization") if isinstance(root, MappingNode) else None
    if not isinstance(zero, MappingNode):
        raise EditRefusedError("the config has no zero_optimization")
    found: list[Edit] = []
    if before.sharding != wanted.sharding:
        found += writing.put(source, zero, "stage", stage_of(wanted.sharding))
    if before.zero.communication is not wanted.zero.communication:
        found += _communication(reading, wanted.zero)
    for key, value in _settings(zero, before.zero, wanted.zero):
        section = zero.get(key)
        if isinstance(section, MappingNode) and isinstance(value, dict):
            for name, inner in value.items():  # what else the section says stays
                found += writing.put(source, section, name, inner)
        else:
            found += writing.put(source, zero, key, value)
    return found


def _settings(zero: MappingNode, before: Zero, after: Zero) -> list[tuple[str, object]]:
    """Keys of ``zero_optimization`` whose value differs, under the alias that is written."""
    found: list[tuple[str, object]] = []
    for names in (SIZES, FLAGS):
        for field in dict.fromkeys(names.values()):
            value = getattr(after, field)
            if value != getattr(before, field):
                keys = [key for key, name in names.items() if name == field]
                found.append((next((key for key in keys if zero.item(key)), keys[0]), value))
    for key, field in PLACES.items():
        place = getattr(after, field)
        if place is not getattr(before, field):
            found.append((key, {"device": device(place)}))
    if after.pinned != before.pinned:
        raise EditRefusedError("DeepSpeed has no key for it that memplan writes")
    return found


def _communication(reading: Reading, wanted: Zero) -> list[Edit]:
    """In which dtype gradients travel, where the config says so already."""
    root = reading.document.root
    if wanted.communication is None or not isinstance(root, MappingNode) or root.item(_COMMUNICATION) is None:
        raise EditRefusedError(f"{_COMMUNICATION} is not written")
    return writing.put(reading.document.source, root, _COMMUNICATION, wanted.communication.label)


_WRITERS: Mapping[str, table.Writer] = {"batch": batch.write, "world": _world}
