"""Real configs of many projects: read as their own loaders read them, and edited to the character."""

from __future__ import annotations

import json as standard_json
import os
import time
import tomllib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from memplan.documents import json, modelfile, toml, yaml
from memplan.documents.edits import apply, insert, replace
from memplan.documents.interpolation import resolved
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, Node, ScalarNode, SequenceNode, plain, scalars
from memplan.documents.yaml_resolvers import Resolver
from memplan.domain.errors import EditRefusedError, MemplanError

SHARED = Path(os.environ.get("MEMPLAN_SHARED", Path(__file__).resolve().parents[3] / "../shared"))
CORPUS = SHARED / "corpus"
EVERY = 6  # files between two that are edited; all are read
SLOWEST = 0.1
"""Seconds of processor time that reading a file may take."""

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real configs is not here")


@cache
def files(*suffixes: str) -> tuple[Path, ...]:
    return tuple(sorted(path for path in CORPUS.glob("*/**/*") if path.suffix in suffixes and path.is_file()))


def parse(source: Source) -> Node:
    if source.path.endswith(".toml"):
        return toml.parse(source)
    return json.parse(source) if source.path.endswith(".json") else yaml.parse(source)


def reference(source: Source) -> Any:
    """What the usual loader gives; dates are kept as text, as ours are."""
    if source.path.endswith(".json"):
        return standard_json.loads(source.text.removeprefix("\ufeff"))
    if source.path.endswith(".toml"):
        return tomllib.loads(source.text)
    return pyyaml().load(source.text)


@cache
def pyyaml() -> Any:
    import yaml as library

    fast: Any = getattr(library, "CSafeLoader", library.SafeLoader)

    class Loader(fast):  # type: ignore[misc]
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [pair for pair in pairs if not pair[0].endswith("timestamp")]
            for first, pairs in fast.yaml_implicit_resolvers.items()
        }

        @staticmethod
        def load(text: str) -> Any:
            return library.load(text, Loader)

    return Loader


@pytest.mark.parametrize(
    ("suffixes", "least"), [((".yml", ".yaml"), 100), ((".json",), 100), ((".toml",), 10)]
)
def test_real_files_read_as_their_own_loader_reads_them(suffixes: tuple[str, ...], least: int) -> None:
    read = 0
    for path in files(*suffixes):
        source = Source.open(path)
        try:
            expected = reference(source)
        except Exception:
            with pytest.raises(MemplanError):
                parse(source)
            continue
        found = plain(parse(source))
        assert repr(found) == repr(expected) or (path.suffix == ".toml" and found == expected), path
        read += 1
    assert read > least


def test_an_integer_in_a_real_file_is_replaced_and_nothing_else() -> None:
    edited = 0
    for path in (*files(".yml", ".yaml", ".json")[::EVERY], *files(".toml")):
        source = Source.open(path)
        try:
            nodes = list(scalars(parse(source)))
        except MemplanError:
            continue
        numbers = [node for node in nodes if type(node.value) is int and node.fixed is None]
        for node in numbers[:: max(1, len(numbers) // 3)]:
            assert isinstance(node.value, int)
            text = apply(source, [replace(source, node, node.value + 1)])
            assert text[: node.span.start] == source.text[: node.span.start]
            assert text.endswith(source.text[node.span.end :])
            again = [other.value for other in scalars(parse(Source.of(text, source.path)))]
            number = nodes.index(node)
            assert repr(again[number]) == repr(node.value + 1)
            del again[number]
            assert repr(again) == repr([other.value for other in nodes if other is not node])
            edited += 1
    assert edited > 100


def test_every_real_file_is_read_or_refused_with_a_place_and_quickly() -> None:
    readers: dict[str, Callable[[Source], Node]] = {
        ".json": partial(json.parse, comments=True),
        ".toml": toml.parse,
        ".yml": partial(yaml.parse, resolver=Resolver.YAML12),
        ".yaml": partial(yaml.parse, resolver=Resolver.YAML12),
        "": modelfile.parse,
    }
    for path in files(*readers):
        source = Source.open(path)
        reader = readers[path.suffix]
        assert timed(reader, source) < SLOWEST or timed(reader, source) < SLOWEST, path


def timed(reader: Callable[[Source], Node], source: Source) -> float:
    """Seconds of processor time for reading a file or for refusing it with a place."""
    started = time.process_time()
    try:
        resolved(source, reader(source))
    except MemplanError as error:
        assert error.location is not None
        assert error.location.path == source.path
    return time.process_time() - started


def test_a_new_key_in_a_real_file_reads_back_and_changes_nothing_else() -> None:
    edited = 0
    for path in (*files(".yml", ".yaml", ".json")[1::EVERY], *files(".toml")):
        source = Source.open(path)
        try:
            root = parse(source)
            assert isinstance(root, MappingNode)
            edit = insert(source, root, "new_key", 1e-5, root.keys()[len(root.keys()) // 2])
        except (MemplanError, AssertionError, IndexError) as error:
            assert not isinstance(error, EditRefusedError) or path.suffix == ".toml", path
            continue
        text = apply(source, [edit])
        assert text.startswith(source.text[: edit.span.start])
        assert text.endswith(source.text[edit.span.end :])
        assert plain(parse(Source.of(text, source.path))) == plain(root) | {"new_key": 1e-5}, path
        edited += 1
    assert edited > 100


def test_real_files_read_as_omegaconf_reads_them() -> None:
    """With its types and its interpolations; what it answers and we do not is marked as not editable."""
    omegaconf = pytest.importorskip("omegaconf")
    read = 0
    for path in files(".yml", ".yaml")[::EVERY]:
        source = Source.open(path)
        try:
            expected = omegaconf.OmegaConf.load(path)
        except Exception:
            with pytest.raises(MemplanError):
                yaml.parse(source, resolver=Resolver.OMEGACONF)
            continue
        read += agreeing(resolved(source, yaml.parse(source, resolver=Resolver.OMEGACONF)), expected)
    assert read > 3000


def agreeing(node: Node, config: Any) -> int:
    """How many values agree; the library raises where an interpolation has no answer."""
    if isinstance(node, ScalarNode):
        assert repr(node.value) == repr(config) or (node.fixed is not None and "${" in node.text)
        return 1
    pairs = (
        enumerate(node.items)
        if isinstance(node, SequenceNode)
        else [(item.key.value, item.value) for item in node.items if node.item(item.key.value) is item]
    )
    count = 0
    for key, below in pairs:
        try:
            value = config[key]
        except Exception:
            assert isinstance(below, ScalarNode)
            assert below.fixed is not None or below.value == "???"
            continue
        count += agreeing(below, value)
    return count
