"""Real configs of many projects: read as their own loaders read them, and edited to the character."""

from __future__ import annotations

import json as standard_json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from memplan.documents import json, yaml
from memplan.documents.edits import apply, replace
from memplan.documents.source import Source
from memplan.documents.tree import Node, plain, scalars
from memplan.domain.errors import MemplanError

SHARED = Path(os.environ.get("MEMPLAN_SHARED", Path(__file__).resolve().parents[3] / "../shared"))
CORPUS = SHARED / "corpus"
EVERY = 4  # files between two that are edited; all are read

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real configs is not here")


@cache
def files(*suffixes: str) -> tuple[Path, ...]:
    return tuple(sorted(path for path in CORPUS.rglob("*") if path.suffix in suffixes and path.is_file()))


def parse(source: Source) -> Node:
    return json.parse(source) if source.path.endswith(".json") else yaml.parse(source)


def reference(source: Source) -> Any:
    """What the usual loader gives; dates are kept as text, as ours are."""
    if source.path.endswith(".json"):
        return standard_json.loads(source.text.removeprefix("\ufeff"))
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


@pytest.mark.parametrize("suffixes", [(".yml", ".yaml"), (".json",)])
def test_real_files_read_as_their_own_loader_reads_them(suffixes: tuple[str, ...]) -> None:
    read = 0
    for path in files(*suffixes):
        source = Source.open(path)
        try:
            expected = reference(source)
        except Exception:
            with pytest.raises(MemplanError):
                parse(source)
            continue
        assert repr(plain(parse(source))) == repr(expected), path
        read += 1
    assert read > 100


def test_an_integer_in_a_real_file_is_replaced_and_nothing_else() -> None:
    edited = 0
    for path in files(".yml", ".yaml", ".json")[::EVERY]:
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
