"""Where a declared value lives: a literal in the manifest, or a key of a source file below its folder."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath

from memplan.dialects.fields import Value
from memplan.dialects.reading import Intake, Slot
from memplan.dialects.settings import Reader
from memplan.documents import json, yaml
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, Node, ScalarNode, SequenceNode
from memplan.domain.errors import FieldError, MemplanError
from memplan.domain.setting import Scalar

PROGRAMS = (".py", ".pyi", ".cpp", ".cc", ".cxx", ".cu", ".cuh", ".c", ".h", ".hpp", ".hh")
TREES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A slot and the value that stands in it."""

    slot: Slot
    value: Scalar


def place(value: Value, folder: Path, intake: Intake, read: Reader = Value.whole) -> Place:
    """The place a manifest entry means: a value itself, or ``{file, key, near?}``; ``read`` reads the value.

    Raises:
        FieldError: the entry is wrong, or what stands at the key is no such value.
        AmbiguousKeyError: the key names several places and ``near`` picks none.
        FileAccessError: the file is missing or unreadable.
    """
    if isinstance(value.node, ScalarNode):
        return Place(slot=Slot(source=value.source, node=value.node), value=read(value))
    entries = value.entries(("file", "key", "near"))
    for key in ("file", "key"):
        if key not in entries:
            raise value.fail(f"names no {key}", expected="{file: train.py, key: Config.width}")
    path = inside(entries["file"], folder)
    try:
        source = intake.open(path)
        node = _node(source, path, entries)
        found = Value(source=source, key=entries["key"].word(), node=node)
        return Place(slot=Slot(source=source, node=node), value=read(found))
    except MemplanError as error:
        raise _at_both(error, value) from None


def inside(value: Value, folder: Path) -> Path:
    """The path of a file that a manifest names, which must lie in the manifest's folder or below it.

    Raises:
        FieldError: the path is absolute, or leads out of the folder (also by a symbolic link).
    """
    text = value.word()
    expected = "a path relative to the manifest, inside its folder"
    parts = (*PurePosixPath(text).parts, *PureWindowsPath(text).parts)
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor or ".." in parts:
        raise value.fail(f"{value.described()} leads out of the manifest's folder", expected=expected)
    path = folder / text
    try:
        leads_out = not path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):
        raise value.fail(f"{value.described()} is no usable path", expected=expected) from None
    if leads_out:
        raise value.fail(f"{value.described()} is a link out of the manifest's folder", expected=expected)
    return path


def _node(source: Source, path: Path, entries: dict[str, Value]) -> ScalarNode:
    suffix = path.suffix.lower()
    key = entries["key"].word()
    near = entries["near"].word() if "near" in entries else None
    if suffix in PROGRAMS:
        from memplan.documents.assignments import find

        return find(source, key, near).node
    if suffix not in TREES:
        raise entries["file"].fail(
            f"{path.name} is in no language memplan rewrites", expected=", ".join((*PROGRAMS, *TREES))
        )
    if near is not None:
        raise entries["near"].fail("only picks among assignments of a program; give the whole dotted key")
    tree = json.parse(source) if suffix == ".json" else yaml.parse(source)
    return _under(source, tree, key)


def _under(source: Source, tree: Node, key: str) -> ScalarNode:
    """The scalar at a dotted key; a list is entered by position."""
    node = tree
    for part in key.split("."):
        inner: Node | None = None
        if isinstance(node, MappingNode):
            inner = node.get(part)
        elif isinstance(node, SequenceNode) and part.isascii() and part.isdigit() and len(part) < 9:
            inner = node.items[int(part)] if int(part) < len(node.items) else None
        if inner is None:
            raise _absent(source, node, key, part)
        node = inner
    if not isinstance(node, ScalarNode):
        raise FieldError(f"{key} is no single value", location=source.location(node.span))
    return node


def _absent(source: Source, node: Node, key: str, part: str) -> FieldError:
    close = get_close_matches(part, node.keys(), n=3) if isinstance(node, MappingNode) else []
    return FieldError(
        f"{source.path} has no key {key}: nothing called {part!r}",
        location=source.location(node.span.start),
        hint=f"did you mean {' or '.join(close)}?" if close else None,
    )


def _at_both(error: MemplanError, value: Value) -> MemplanError:
    """The error with both places in it: the entry of the manifest and the source it points to."""
    entry = f"named by {value.location} ({value.key})"
    hint = f"{error.hint}; {entry}" if error.hint else entry
    return type(error)(
        error.message, location=error.location or value.location, expected=error.expected, hint=hint
    )
