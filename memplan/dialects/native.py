"""The native dialect: a workload spelled out key by key, strict about every one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from memplan.dialects import checkpointing_schema, models, writing
from memplan.dialects.fields import Value
from memplan.dialects.header import HEADER_KEYS, check_version, target
from memplan.dialects.reading import Document, FieldChange, Intake, Origin, Reading
from memplan.dialects.schema import SECTIONS, SINGLES, spelled
from memplan.documents.tree import MappingNode, Node
from memplan.domain.allocator import AllocatorOptions
from memplan.domain.allocator import spelled as spelled_divisions
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Adapter, Checkpointing, Evaluation, Loss, Outputs, Quantization, Workload

NAME = "native"
KEYS = (*HEADER_KEYS, "model", *SINGLES, *SECTIONS)
MODEL_KEYS = ("config", "ref", "path")


def recognises(document: Document) -> int:
    """A mapping with the key ``memplan``."""
    return 1 if isinstance(document.root, MappingNode) and document.root.item("memplan") else 0


def read(document: Document, intake: Intake) -> Reading:
    """The workload a native config spells out; what it leaves out has memplan's defaults.

    Raises:
        FieldError: a key is unknown, or a value has the wrong type or range.
        UnknownNameError: ``model.ref`` is not known offline.
    """
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    entries = root.entries(KEYS)
    check_version(entries, root)
    if "model" not in entries:
        raise root.fail(
            "the file says nothing of the model", expected="model: {config | ref | path | tensors: …}"
        )
    architecture = _model(entries["model"], document, intake)
    origins: dict[str, Origin] = {"model": Origin(location=entries["model"].location, how="written")}
    workload = _workload(architecture, entries, origins)
    asked = target(entries.get("target"))
    return Reading(
        path=document.path,
        dialect=NAME,
        workload=workload,
        origins=origins | dict(asked.origins),
        gpu=asked.gpu,
        ram=asked.ram,
        margin=asked.margin,
        profile=asked.profile,
        document=document,
    )


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """Each changed value replaced where it stands; a missing key or section is inserted."""
    after = writing.planned(reading.workload, changes)
    written: list[Edit] = []
    advice: list[Advice] = []
    missing: dict[str, dict[str, Any]] = {}
    done: set[str] = set()
    for change in changes:
        units = _units(change[0])
        if not units:
            advice.append(writing.unwritable(change, "the native dialect has no key for it"))
        try:
            for unit in units:
                if unit not in done:
                    done.add(unit)
                    written += _written(reading, unit, spelling(unit, after), missing)
        except EditRefusedError as error:
            advice.append(writing.refused(change, error))
    source, root = reading.document.source, reading.document.root
    if isinstance(root, MappingNode):
        for section, values in missing.items():
            written += writing.put(source, root, section, values)
    return tuple(written), tuple(advice)


def _model(value: Value, document: Document, intake: Intake) -> Architecture:
    entries = value.entries(MODEL_KEYS)
    if len(entries) != 1:
        raise value.fail(
            f"gives {' and '.join(entries) or 'nothing'}",
            expected="exactly one of config, ref, path (or tensors, in a manifest)",
        )
    if "config" in entries:
        return models.of_config(entries["config"], intake)
    if "ref" in entries:
        return models.of_hub(entries["ref"].word(), entries["ref"], intake)
    return models.of_name(entries["path"], intake, document.path.parent, hub=False)


def _workload(
    architecture: Architecture, entries: Mapping[str, Value], origins: dict[str, Origin]
) -> Workload:
    # A plain training loop, unlike the Trainer, still holds the outputs while backward runs.
    workload = Workload(model=architecture, outputs=Outputs.KEPT)
    for name, leaf in SINGLES.items():
        workload = _leaf(workload, leaf.field, leaf.read, entries.get(name), origins)
    for section, leaves in SECTIONS.items():
        given = entries[section].entries(tuple(leaves)) if section in entries else {}
        for name, leaf in leaves.items():
            workload = _leaf(workload, leaf.field, leaf.read, given.get(name), origins)
    for name in ("adapter", "quantization"):
        _note_parts(workload, name, entries.get(name), origins)
    return workload


def _leaf(
    workload: Workload, field: str, reader: Any, value: Value | None, origins: dict[str, Origin]
) -> Workload:
    if value is None:
        origins[field] = Origin(how="default", note="native default")
        return workload
    origins[field] = Origin(location=value.location, how="written")
    return workload.changed(field, reader(value))


def _note_parts(workload: Workload, name: str, value: Value | None, origins: dict[str, Origin]) -> None:
    part = getattr(workload, name)
    if part is None or value is None:
        return
    given = value.entries()
    for item in fields(part):
        where = given[item.name].location if item.name in given else None
        origins[f"{name}.{item.name}"] = Origin(location=where, how="written" if where else "default")


def _units(field: str) -> tuple[str, ...]:
    """What is written for a field: a leaf of a section, every leaf of a whole one, or a single as a whole."""
    path = spelled(field)
    section, _, leaf = path.partition(".")
    if section in SINGLES:
        return (section,)
    leaves = SECTIONS.get(section, {})
    if not leaf:
        return tuple(f"{section}.{name}" for name in leaves)
    return (path,) if leaf in leaves else ()


def _written(reading: Reading, unit: str, value: Any, missing: dict[str, dict[str, Any]]) -> list[Edit]:
    source, root = reading.document.source, reading.document.root
    section, _, leaf = unit.partition(".")
    assert isinstance(root, MappingNode)
    if not leaf:
        before = spelling(unit, reading.workload)
        return writing.put(source, root, unit, _needed(root.get(unit), value, before))
    inner = root.get(section)
    if inner is None or (isinstance(inner, MappingNode) and not inner.items):
        missing.setdefault(section, {})[leaf] = value
        return []
    assert isinstance(inner, MappingNode)
    return writing.put(source, inner, leaf, value)


def _needed(node: Node | None, value: Any, before: Any) -> Any:
    """Of a mapping's new values those that change or are there already."""
    if not isinstance(node, MappingNode) or not isinstance(value, dict) or not isinstance(before, dict):
        return value
    there = set(node.keys())
    return {name: new for name, new in value.items() if name in there or new != before.get(name)}


def spelling(unit: str, workload: Workload) -> Any:
    """How the native dialect writes a unit of the workload."""
    leaf = SINGLES.get(unit)
    if leaf is None:
        section, _, name = unit.partition(".")
        leaf = SECTIONS[section][name]
    value = workload.at(leaf.field)
    if value is None:
        return {
            "precision.autocast": None,
            "precision.master": None,
            "world.bucket_cap_mb": None,
            "zero.overlap": None,
            "adapter": "none",
            "evaluation": "none",
            "quantization": "none",
        }.get(unit, "params")
    return _plain(value)


def _allocator(options: AllocatorOptions) -> dict[str, Any]:
    """The options that are not the default."""
    found = {
        item.name: getattr(options, item.name)
        for item in fields(options)
        if getattr(options, item.name) != item.default
    }
    if "roundup_power2_divisions" in found:
        found["roundup_power2_divisions"] = spelled_divisions(options.roundup_power2_divisions)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Checkpointing):
        return checkpointing_schema.spelled(value)
    if isinstance(value, Loss):
        return {"chunked": value.chunks} if value.kind == "chunked" else value.kind
    if isinstance(value, Adapter | Quantization | Evaluation):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, AllocatorOptions):
        return _allocator(value) or "none"
    if isinstance(value, Dtype):
        return value.label
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, str) else value
