"""A profile file as plain values that still know which line they stood on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # noqa: TID253  only folder.py imports this module, and only on request

from memplan.domain.errors import FileAccessError, Location, ProfileError

_LARGEST_FILE = 4 * 2**20
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Keys = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One YAML file: its values, and its nodes to find a place in the text."""

    path: Path
    lines: list[str]
    root: yaml.Node
    values: Any

    def error(
        self, message: str, keys: Keys, *, expected: str | None = None, at_key: bool = False
    ) -> ProfileError:
        """An error at the value that the keys lead to, or at its key; at the deepest value there is."""
        field = ".".join(str(key) for key in keys)
        named = f"{field}: {message}" if field else message
        return ProfileError(named, location=self._location(self._find(keys, at_key)), expected=expected)

    def _find(self, keys: Keys, at_key: bool) -> yaml.Node:
        node = self.root
        for depth, key in enumerate(keys):
            child = _child(node, key, at_key=at_key and depth == len(keys) - 1)
            if child is None:
                return node
            node = child
        return node

    def _location(self, node: yaml.Node) -> Location:
        start, end = node.start_mark, node.end_mark
        width = end.column - start.column if end.line == start.line else 1
        return Location(
            path=str(self.path),
            line=start.line + 1,
            column=start.column + 1,
            text=self.lines[start.line] if start.line < len(self.lines) else "",
            width=max(1, width),
        )


def read(path: Path) -> Source:
    """Read one profile file.

    Raises:
        FileAccessError: it is missing, unreadable, too large or not text.
        ProfileError: it is not well-formed YAML, repeats a key or uses anchors.
    """
    text = _text(path)
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            raise ProfileError(f"{path} is empty", location=Location(path=str(path), line=1))
        _refuse_repeats(path, root)
        values = loader.construct_document(root)
    except yaml.YAMLError as error:
        raise _malformed(path, text, error) from error
    except (ValueError, RecursionError) as error:
        location = Location(path=str(path), line=1)
        raise ProfileError(f"the file cannot be read as YAML: {error}", location=location) from error
    finally:
        loader.dispose()
    return Source(path=path, lines=text.splitlines(), root=root, values=values)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise FileAccessError(f"{path} is larger than any profile file needs to be")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FileAccessError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileAccessError(f"{path} is not UTF-8 text") from error


def _malformed(path: Path, text: str, error: yaml.YAMLError) -> ProfileError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return ProfileError(f"not well-formed YAML: {problem}", location=Location(path=str(path), line=1))
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    where = Location(path=str(path), line=mark.line + 1, column=mark.column + 1, text=line)
    return ProfileError(f"not well-formed YAML: {problem}", location=where)


def _refuse_repeats(path: Path, root: yaml.Node) -> None:
    seen: set[int] = set()
    for node in _walk(root, seen):
        if not isinstance(node, yaml.MappingNode):
            continue
        names: set[str] = set()
        for key, _ in node.value:
            mark = key.start_mark
            where = Location(path=str(path), line=mark.line + 1, column=mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                raise ProfileError("a key must be a plain name", location=where)
            if key.value in names:
                raise ProfileError(f"{key.value!r} is given twice", location=where)
            names.add(key.value)


def _walk(root: yaml.Node, seen: set[int]) -> Iterator[yaml.Node]:
    pending = [root]
    while pending:
        node = pending.pop()
        if id(node) in seen:
            raise yaml.composer.ComposerError(
                None, None, "anchors and aliases are not used in profiles", node.start_mark
            )
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            pending += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            pending += node.value


def _child(node: yaml.Node, key: str | int, *, at_key: bool) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == str(key):
                found: yaml.Node = name if at_key else value
                return found
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        item: yaml.Node = node.value[key]
        return item
    return None
