"""Inserting keys: a sibling's line, its indentation and its line ending."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.documents import json, yaml
from memplan.documents.edits import apply, insert
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, Node, SequenceNode, plain
from memplan.domain.errors import EditRefusedError


def parse(source: Source) -> Node:
    return json.parse(source) if source.path.endswith(".json") else yaml.parse(source)


def target(root: Node, path: tuple[str | int, ...]) -> MappingNode:
    for step in path:
        if isinstance(root, SequenceNode):
            assert isinstance(step, int)
            root = root.items[step]
        else:
            assert isinstance(root, MappingNode)
            found = root.get(step)
            assert found is not None
            root = found
    assert isinstance(root, MappingNode)
    return root


def inserted(path: str, text: str, where: tuple[str | int, ...], after: str | None, value: Any = 5) -> str:
    source = Source.of(text, path)
    result = apply(source, [insert(source, target(parse(source), where), "x", value, after)])
    reread = target(parse(Source.of(result, path)), where)
    assert plain(reread) == plain(target(parse(source), where)) | {"x": value}
    return result


@pytest.mark.parametrize(
    ("before", "where", "after", "result"),
    [
        ("a: 1 # c\nb: 2\n", (), "a", "a: 1 # c\nx: 5\nb: 2\n"),
        ("a: 1\nb: 2", (), None, "a: 1\nb: 2\nx: 5"),
        ("a: 1\nb: 2", (), "unknown", "a: 1\nb: 2\nx: 5"),
        ("a: 1\r\nb: 2\r\n", (), "a", "a: 1\r\nx: 5\r\nb: 2\r\n"),
        ("a: 1\r\nb: 2", (), "b", "a: 1\r\nb: 2\r\nx: 5"),
        ("\ufeffa: 1\n", (), "a", "\ufeffa: 1\nx: 5\n"),
        ("m:\n    a: 1\n\n# far\nz: 1\n", ("m",), "a", "m:\n    a: 1\n    x: 5\n\n# far\nz: 1\n"),
        ("m:\n- a: 1\n  b: 2\n- a: 3\n", ("m", 0), "b", "m:\n- a: 1\n  b: 2\n  x: 5\n- a: 3\n"),
        ("m:\n  -   a: 1\n", ("m", 0), "a", "m:\n  -   a: 1\n      x: 5\n"),
        ("- - a: 1\n", (0, 0), "a", "- - a: 1\n    x: 5\n"),
        ("a:\n  - 1\n  - 2\nb: 1\n", (), "a", "a:\n  - 1\n  - 2\nx: 5\nb: 1\n"),
        ("a:\n- 1\n- 2\nb: 1\n", (), "a", "a:\n- 1\n- 2\nx: 5\nb: 1\n"),
        ("a: |\n  t\n\n# c\nb: 1\n", (), "a", "a: |\n  t\nx: 5\n\n# c\nb: 1\n"),
        ("a: |+\n  t\n\nb: 1\n", (), "a", "a: |+\n  t\n\nx: 5\nb: 1\n"),
        ("a: 'p\n  q'  # c\nb: 1\n", (), "a", "a: 'p\n  q'  # c\nx: 5\nb: 1\n"),
        ("a: [1,\n  2]\nb: 1\n", (), "a", "a: [1,\n  2]\nx: 5\nb: 1\n"),
        ("a:   # nothing\nb: 1\n", (), "a", "a:   # nothing\nx: 5\nb: 1\n"),
        ("a: 1\n...\n", (), "a", "a: 1\nx: 5\n...\n"),
        ("m: &m\n  a: 1\n", ("m",), "a", "m: &m\n  a: 1\n  x: 5\n"),
        ("'a': 1\n", (), "a", "'a': 1\n'x': 5\n"),
        ("m: {a: 1, b: 2} # c\n", ("m",), "a", "m: {a: 1, x: 5, b: 2} # c\n"),
        ("m: {a: 1, b: 2}\n", ("m",), None, "m: {a: 1, b: 2, x: 5}\n"),
        ("m: { a: 1, }\n", ("m",), None, "m: { a: 1, x: 5, }\n"),
        ("m: {a: }\n", ("m",), None, "m: {a: , x: 5 }\n"),
        ("m: {a, b}\n", ("m",), "a", "m: {a, x: 5, b}\n"),
        ("m: {}\n", ("m",), None, "m: {x: 5}\n"),
        ("m: {\n  a: 1, # c\n  b: 2\n}\n", ("m",), "a", "m: {\n  a: 1, # c\n  x: 5,\n  b: 2\n}\n"),
        ("m: {\n  a: 1,\n  b: 2 # c\n}\n", ("m",), "b", "m: {\n  a: 1,\n  b: 2,\n  x: 5 # c\n}\n"),
        (
            "o: &o {q: 1}\nm:\n  <<: *o\n  a: 1\nb: 2\n",
            ("m",),
            None,
            "o: &o {q: 1}\nm:\n  <<: *o\n  a: 1\n  x: 5\nb: 2\n",
        ),
    ],
)
def test_yaml_gets_a_sibling(
    before: str, where: tuple[str | int, ...], after: str | None, result: str
) -> None:
    assert inserted("c.yaml", before, where, after) == result


@pytest.mark.parametrize(
    ("before", "where", "after", "result"),
    [
        ('{"a": 1, "b": 2}', (), "a", '{"a": 1, "x": 5, "b": 2}'),
        ('{"a":1}', (), None, '{"a":1, "x":5}'),
        ("{}", (), None, '{"x": 5}'),
        ('{\n\t"a": 1,\n\t"b": {}\n}\n', (), "a", '{\n\t"a": 1,\n\t"x": 5,\n\t"b": {}\n}\n'),
        ('{\r\n  "a": 1,\r\n  "b": 2\r\n}', (), None, '{\r\n  "a": 1,\r\n  "b": 2,\r\n  "x": 5\r\n}'),
        ('{\n  "m": {\n    "a": 1\n  }\n}', ("m",), "a", '{\n  "m": {\n    "a": 1,\n    "x": 5\n  }\n}'),
        ('{"m": [{"a": 1}]}', ("m", 0), "a", '{"m": [{"a": 1, "x": 5}]}'),
    ],
)
def test_json_gets_a_sibling(
    before: str, where: tuple[str | int, ...], after: str | None, result: str
) -> None:
    assert inserted("c.json", before, where, after) == result


@pytest.mark.parametrize("value", [True, None, 1.5, "text", "12", "a: b", {"every": 2}, [1, "b"], {}, [], ""])
def test_any_small_value_can_be_inserted(value: Any) -> None:
    inserted("c.yaml", "a: 1\n", (), "a", value)
    inserted("c.yaml", "{a: 1}", (), "a", value)
    inserted("c.json", '{"a": 1}', (), "a", value)


def test_an_insertion_tells_its_line_and_value() -> None:
    source = Source.of("a: 1\nb: 2\n", "c.yaml")
    edit = insert(source, target(parse(source), ()), "x", True, "a")
    assert (edit.line, edit.before, edit.after) == (2, "", "true")
    source = Source.of('{\n  "a": 1,\n  "b": 2\n}', "c.json")
    assert insert(source, target(parse(source), ()), "x", 1, "a").line == 3
    assert insert(source, target(parse(source), ()), "x", 1, "b").line == 4


def test_two_keys_can_be_inserted_behind_one_sibling() -> None:
    for path, text in (("c.yaml", "a: 1"), ("c.yaml", "{a: 1}"), ("c.json", '{\n  "a": 1\n}')):
        source = Source.of(text, path)
        root = target(parse(source), ())
        result = apply(source, [insert(source, root, "x", 5, "a"), insert(source, root, "y", 6, "a")])
        assert plain(parse(Source.of(result, path))) == {"a": 1, "x": 5, "y": 6}


def test_two_keys_in_an_empty_mapping_are_an_overlap() -> None:
    source = Source.of("{}", "c.json")
    root = target(parse(source), ())
    with pytest.raises(ValueError, match="overlap"):
        apply(source, [insert(source, root, "x", 5), insert(source, root, "y", 6)])


@pytest.mark.parametrize(
    ("path", "text", "where", "message"),
    [
        ("c.yaml", "a: &m {b: 1}\nc: *m\n", ("a",), "because it is anchored"),
        ("c.yaml", "a: &m {b: 1}\nc: *m\n", ("c",), "because it is the alias"),
        ("c.yaml", "x: 1\n", (), "is written here already"),
        ("c.json", '{"x": 1}', (), "is written here already"),
        ("c.yaml", "[a: 1]", (0,), "pair without braces"),
        ("c.yaml", "<<: {a: 1}\n", (), "without keys of its own"),
        ("c.yaml", "{ # none\n}\n", (), "without keys of its own"),
        ("c.yaml", "? a\n: 1\n", (), "no key can be inserted behind this one"),
        ("c.yaml", "--- {a: 1}\n".replace("{a: 1}", "!!map\n&k a: 1"), (), "no key can be inserted"),
        ("c.yaml", "a: |\n  text", (), "without a final newline"),
        ("c.yaml", "a:\n- b: >\n    text", (), "without a final newline"),
    ],
)
def test_where_no_place_is_safe_the_insertion_is_refused(
    path: str, text: str, where: tuple[str | int, ...], message: str
) -> None:
    source = Source.of(text, path)
    with pytest.raises(EditRefusedError, match=r".") as caught:
        insert(source, target(parse(source), where), "x", 5)
    assert message in caught.value.message
    assert caught.value.location is not None
