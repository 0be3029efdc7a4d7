"""One text, several readers of YAML: each has its own types."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.documents.edits import apply, replace
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, ScalarNode, plain
from memplan.documents.yaml import parse, parse_all
from memplan.documents.yaml_resolvers import Resolver
from memplan.domain.errors import DocumentError

PYYAML, JSONARGPARSE, OMEGACONF, YAML12 = Resolver

READINGS: dict[str, tuple[Any, Any, Any]] = {
    "2e-5": ("2e-5", 2e-5, 2e-5),
    "1e5": ("1e5", 1e5, 1e5),
    "1.5e3": ("1.5e3", 1.5e3, 1.5e3),
    "1.0e-5": (1e-5, 1e-5, 1e-5),
    ".5": (0.5, 0.5, 0.5),
    "-.5": ("-.5", "-.5", -0.5),
    "on": (True, True, "on"),
    "NO": (False, False, "NO"),
    "True": (True, True, True),
    "y": ("y", "y", "y"),
    "010": (8, 8, 10),
    "0o17": ("0o17", "0o17", 15),
    "08": ("08", "08", 8),
    "12:30": (750, 750, "12:30"),
    "1_000": (1000, 1000, 1000),
    "0x1F": (31, 31, 31),
    "0b11": (3, 3, 3),
    "~": (None, None, None),
    "": (None, None, None),
    "null": (None, None, None),
    "-.inf": (float("-inf"), float("-inf"), float("-inf")),
    "2024-01-01": ("2024-01-01", "2024-01-01", "2024-01-01"),
    "'2e-5'": ("2e-5", "2e-5", "2e-5"),
}
"""What PyYAML, OmegaConf and jsonargparse, and ruamel.yaml make of a plain text."""


def value(text: str, resolver: Resolver) -> Any:
    return plain(parse(Source.of(f"a: {text}\n"), resolver=resolver))["a"]


@pytest.mark.parametrize("text", READINGS)
def test_a_plain_text_has_the_type_its_reader_gives_it(text: str) -> None:
    pyyaml, more_floats, version_1_2 = READINGS[text]
    assert repr(value(text, PYYAML)) == repr(pyyaml)
    assert repr(value(text, OMEGACONF)) == repr(value(text, JSONARGPARSE)) == repr(more_floats)
    assert repr(value(text, YAML12)) == repr(version_1_2)


@pytest.mark.parametrize("text", READINGS)
def test_the_readers_themselves_agree(text: str) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    ruamel = pytest.importorskip("ruamel.yaml")
    _, more_floats, version_1_2 = READINGS[text]
    assert repr(omegaconf.OmegaConf.create(f"a: {text}\n").a) == repr(more_floats)
    if not text.startswith("2024"):  # a date: its text is what counts here
        assert repr(ruamel.YAML(typ="safe", pure=True).load(f"a: {text}\n")["a"]) == repr(version_1_2)


@pytest.mark.parametrize("resolver", Resolver)
@pytest.mark.parametrize("old", ["2e-5", "1.0e-5", "0.5", "8", "010", "on", "full", "'x'", "~"])
@pytest.mark.parametrize("new", [1e-5, 3e22, 0.25, 16, True, False, "on", "1e5", "12:30", "010", "y", None])
def test_what_is_written_reads_back_with_the_same_reader(resolver: Resolver, old: str, new: Any) -> None:
    source = Source.of(f"a: {old}  # c\n")
    root = parse(source, resolver=resolver)
    assert isinstance(root, MappingNode)
    node = root.get("a")
    assert isinstance(node, ScalarNode)
    text = apply(source, [replace(source, node, new)])
    found = plain(parse(Source.of(text), resolver=resolver))["a"]
    assert (found, isinstance(found, bool)) == (new, isinstance(new, bool))


def test_a_number_keeps_its_notation_where_its_reader_takes_it_for_one() -> None:
    source = Source.of("a: 2e-5\n")
    for resolver, expected in ((PYYAML, "a: 1.0e-5\n"), (OMEGACONF, "a: 1e-5\n")):
        root = parse(source, resolver=resolver)
        assert isinstance(root, MappingNode)
        node = root.get("a")
        assert isinstance(node, ScalarNode)
        assert apply(source, [replace(source, node, 1e-5)]) == expected


def test_a_key_that_is_written_twice_is_an_error_to_some() -> None:
    source = Source.of("a: 1\nb: {c: 1, c: 2}\n")
    for resolver in (PYYAML, JSONARGPARSE):
        assert plain(parse(source, resolver=resolver))["b"] == {"c": 2}
    for resolver in (OMEGACONF, YAML12):
        with pytest.raises(DocumentError, match=f"written twice, which {resolver.value} refuses") as caught:
            parse(source, resolver=resolver)
        assert str(caught.value.location) == "<text>:2:11"


def test_several_documents_are_read_when_they_are_asked_for() -> None:
    source = Source.of("--- &x\na: 1e5\n---\nb: *x\n".replace("b: *x", "b: 2"))
    assert [plain(node) for node in parse_all(source, resolver=OMEGACONF)] == [{"a": 1e5}, {"b": 2}]
    assert parse_all(Source.of("# nothing\n")) == ()
    with pytest.raises(DocumentError, match="several YAML documents"):
        parse(source)
    with pytest.raises(DocumentError, match="no value is anchored as &x"):
        parse_all(Source.of("a: &x 1\n---\nb: *x\n"))
