"""The project manifest ``memplan.yaml``: declared tensors, where their sizes live, and configs to check.

The values of a declared model stay in the sources that use them (Python, C++, YAML, JSON); the
manifest only says where. Every file it names must lie below its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from memplan.dialects import declared, models, settings, writing
from memplan.dialects.fields import Value
from memplan.dialects.header import HEADER_KEYS, TARGET_KEYS, check_version, of_entries, target
from memplan.dialects.places import Place, inside, place
from memplan.dialects.reading import Document, FieldChange, Intake, Listed, Origin, Reading
from memplan.documents import edits as documents_edits
from memplan.documents.tree import MappingNode
from memplan.domain.architecture import DeclaredModel
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError, FieldError
from memplan.domain.finding import Finding, Level
from memplan.domain.setting import Scalar
from memplan.domain.workload import Task, Workload

NAME = "manifest"
FILE_NAMES = ("memplan.yaml", "memplan.yml")
KEYS = (*HEADER_KEYS, "task", "model", "tunable", "configs")
MODEL_KEYS = ("mechanism", "tensors", "values")
MOST_CONFIGS = 1000


def recognises(document: Document) -> int:
    """A mapping with ``configs``, ``tunable`` or ``model.tensors`` beside ``memplan``, or its file name."""
    root = document.root
    if not isinstance(root, MappingNode):
        return 0
    if root.item("memplan") and (root.item("configs") or root.item("tunable") or declares_tensors(document)):
        return 3
    known = document.path.name in FILE_NAMES and not root.item("memplan")
    return 1 if known else 0


def declares_tensors(document: Document) -> bool:
    """Whether the file has ``model.tensors``, ``model.values`` or ``model.mechanism``."""
    model = document.root.get("model") if isinstance(document.root, MappingNode) else None
    return isinstance(model, MappingNode) and any(map(model.item, MODEL_KEYS))


def declares_model(document: Document) -> bool:
    """Whether the manifest has a model of its own beside the configs it lists."""
    return isinstance(document.root, MappingNode) and document.root.item("model") is not None


def read(document: Document, intake: Intake) -> Reading:
    """The declared model of a manifest, its values taken from where they live.

    Values that differ between files count with the largest, and each difference is a finding.

    Raises:
        FieldError, AmbiguousKeyError: in the manifest or in the source it points to.
        FileAccessError: a file it names is missing or lies outside its folder.
    """
    entries = _entries(document)
    if "model" not in entries:
        raise FieldError(
            f"{document.source.path} declares no model of its own",
            location=document.source.location(0),
            hint="name one of the configs it lists; `memplan check` goes through all of them",
        )
    parts = entries["model"].entries(MODEL_KEYS)
    mechanism = settings.mechanism(parts["mechanism"]) if "mechanism" in parts else None
    if mechanism is None and "tensors" not in parts:
        raise entries["model"].fail("declares no tensors", expected="tensors: {NAME: {shape | bytes, …}}")
    places = _places(parts.get("values"), document.path.parent, intake, mechanism)
    model = _model(parts, mechanism, {name: _counting(several) for name, several in places.items()})
    values = dict(model.values)
    task = entries["task"].member(Task) if "task" in entries else Task.TRAIN
    asked = target(entries.get("target"))
    return Reading(
        path=document.path,
        dialect=NAME,
        workload=Workload(model=model, task=task),
        origins={
            "model": Origin(location=next(iter(parts.values())).location, how="written"),
            **asked.origins,
            **{name: _origin(several) for name, several in places.items()},
        },
        findings=tuple(
            finding for name, several in places.items() for finding in _disagreement(name, several)
        ),
        gpu=asked.gpu,
        ram=asked.ram,
        margin=asked.margin,
        profile=asked.profile,
        tunable=_tunable(entries.get("tunable"), values),
        document=document,
        slots={name: tuple(found.slot for found in several) for name, several in places.items()},
    )


def listed(document: Document) -> tuple[Listed, ...]:
    """The configs a manifest lists, each with its target (the manifest's where it names none).

    Raises:
        FieldError: an entry has no path, an unknown key, or a path outside the manifest's folder.
    """
    entries = _entries(document)
    if "configs" not in entries:
        return ()
    fallback = target(entries.get("target"))
    found = []
    for value in entries["configs"].items():
        given = value.entries(("path", *TARGET_KEYS))
        if "path" not in given:
            raise value.fail("names no file", expected="path: train.yml")
        asked = of_entries(given)
        found.append(
            Listed(
                path=inside(given["path"], document.path.parent),
                location=value.location,
                gpu=asked.gpu or fallback.gpu,
                ram=asked.ram or fallback.ram,
                margin=asked.margin or fallback.margin,
                profile=asked.profile or fallback.profile,
            )
        )
    if len(found) > MOST_CONFIGS:
        raise entries["configs"].fail(f"lists {len(found)} configs", expected=f"at most {MOST_CONFIGS}")
    return tuple(found)


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """Each declared value rewritten in every place it lives in, or in none of them."""
    written: list[Edit] = []
    advice: list[Advice] = []
    model = reading.workload.model
    declared_names = dict(model.values) if isinstance(model, DeclaredModel) else {}
    for change in changes:
        name, _, _ = change
        if name not in declared_names:
            advice.append(writing.unwritable(change, "the manifest declares no value of that name"))
            continue
        try:
            written += _rewritten(reading, change)
        except EditRefusedError as error:
            advice.append(writing.refused(change, error))
    return tuple(_distinct(written)), tuple(advice)


def _rewritten(reading: Reading, change: FieldChange) -> list[Edit]:
    """One value in every place it lives in; a setting that has its default is added to the manifest's values.

    Raises:
        EditRefusedError: it cannot be written.
    """
    name, _, after = change
    if name in reading.slots:
        return [
            documents_edits.replace(slot.source, slot.node, after)
            for slot in reading.slots[name]
            if slot.node.value != after
        ]
    root = reading.document.root
    assert isinstance(root, MappingNode)
    model = root.get("model")
    assert isinstance(model, MappingNode)
    values, source = model.get("values"), reading.document.source
    if isinstance(values, MappingNode):
        return [documents_edits.insert(source, values, name, after)]
    return [documents_edits.insert(source, model, "values", {name: after}, "mechanism")]


def _entries(document: Document) -> dict[str, Value]:
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    entries = root.entries(KEYS)
    check_version(entries, root)
    return entries


def _model(parts: Mapping[str, Value], mechanism: str | None, given: Mapping[str, Place]) -> DeclaredModel:
    """The declared model, with every setting of its mechanism."""

    def fail(name: str, message: str) -> FieldError:
        at = parts.get("values", parts.get("mechanism"))
        assert at is not None
        if name not in given:
            return at.fail(f"{name} {message}")
        entry, stands = at.entries()[name], given[name].slot.location
        elsewhere = None if stands == entry.location else f"named by {entry.location} ({entry.key})"
        return FieldError(f"{entry.key}: {message}", location=stands, hint=elsewhere)

    values = settings.completed(mechanism, {name: found.value for name, found in given.items()}, fail)
    numbers = [name for name, value in values.items() if type(value) is int]
    tensors = declared.tensors(parts["tensors"], numbers) if "tensors" in parts else ()
    if mechanism is not None and "values" in parts:
        sizing = {name for item in tensors for name in (*item.shape, *dict(item.per))}
        settings.check_known(mechanism, parts["values"], sizing)
    return DeclaredModel(tensors=tensors, values=tuple(values.items()), mechanism=mechanism)


def _places(
    values: Value | None, folder: Path, intake: Intake, mechanism: str | None
) -> dict[str, tuple[Place, ...]]:
    if values is None:
        return {}
    found = {}
    for name, value in values.entries().items():
        declared.check_name(name, value)
        found[name] = _several(value, folder, intake, settings.reader(name, mechanism))
    return found


def _several(value: Value, folder: Path, intake: Intake, read: settings.Reader) -> tuple[Place, ...]:
    node = value.node
    if not isinstance(node, MappingNode) or not node.item("files"):
        return (place(value, folder, intake, read),)
    several = tuple(place(item, folder, intake, read) for item in value.entries(("files",))["files"].items())
    if not several:
        raise value.fail("lists no file", expected="files: [{file: …, key: …}, …]")
    return several


def _origin(several: Sequence[Place]) -> Origin:
    largest = _counting(several)
    others = [str(found.slot.location) for found in several if found is not largest]
    return Origin(
        location=largest.slot.location,
        how="written",
        note=f"also in {', '.join(others)}" if others else None,
    )


def _counting(several: Sequence[Place]) -> Place:
    """The one of several places whose value counts: the largest number, or the first word."""
    return max(several, key=lambda found: found.value if isinstance(found.value, int) else 0)


def _disagreement(name: str, several: Sequence[Place]) -> list[Finding]:
    largest = _counting(several)
    return [
        Finding(
            path=found.slot.source.path,
            line=found.slot.location.line,
            code="MP002",
            level=Level.WARNING,
            message=f"{name} is {found.value} here but {largest.value} at "
            f"{largest.slot.source.path}:{largest.slot.location.line}; "
            f"the {'largest' if isinstance(largest.value, int) else 'first'} counts",
            fix=f"write the same {name} in both places",
        )
        for found in several
        if found.value != largest.value
    ]


def _tunable(value: Value | None, known: Mapping[str, Scalar]) -> tuple[str, ...]:
    if value is None or value.is_null:
        return ()
    return tuple(item.choice(tuple(known)) for item in value.items())


def _distinct(written: Sequence[Edit]) -> list[Edit]:
    """Two names may live in one place; the place is rewritten once."""
    return list(dict.fromkeys(written))
