"""TOML: values as the standard library gives them, with places; edits that keep every other character."""

from __future__ import annotations

import time
from typing import Any

import pytest

from memplan.documents import toml
from memplan.documents.edits import apply, insert, replace
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, Node, ScalarNode, SequenceNode, plain
from memplan.domain.errors import DocumentError, EditRefusedError

TEXT = """# a job
title = "run"  # name

[training]
local_batch_size = 8
global_batch_size = -1
seq_len = 2_048
lr = 8e-4
compile = true
data.path = 'c4'   # dotted

[training.inner]
when = 1979-05-27
note = '''
two lines'''

[parallelism]

[[stages]]
size = 1
[stages.more]
x = {y = 2, z.w = [1, {q = 'r'}]}
[[stages]]
size = 2
"""


def read(text: str = TEXT) -> MappingNode:
    return toml.parse(Source.of(text, "c.toml"))


def at(node: Node, *path: str | int) -> Node:
    for step in path:
        if isinstance(node, SequenceNode):
            assert isinstance(step, int)
            node = node.items[step]
        else:
            assert isinstance(node, MappingNode)
            found = node.get(step)
            assert found is not None
            node = found
    return node


def mapping(text: str, *path: str | int) -> MappingNode:
    found = at(read(text), *path)
    assert isinstance(found, MappingNode)
    return found


def test_tables_dotted_keys_and_inline_tables_nest() -> None:
    assert plain(read()) == {
        "title": "run",
        "training": {
            "local_batch_size": 8,
            "global_batch_size": -1,
            "seq_len": 2048,
            "lr": 8e-4,
            "compile": True,
            "data": {"path": "c4"},
            "inner": {"when": "1979-05-27", "note": "two lines"},
        },
        "parallelism": {},
        "stages": [{"size": 1, "more": {"x": {"y": 2, "z": {"w": [1, {"q": "r"}]}}}}, {"size": 2}],
    }


def test_values_know_their_place_and_tables_their_header() -> None:
    source = Source.of(TEXT, "c.toml")
    root = toml.parse(source)
    node = at(root, "training", "seq_len")
    assert isinstance(node, ScalarNode)
    assert (node.text, source.line(node.span)) == ("2_048", 7)
    assert root.line("training", source) == 4
    table = at(root, "training")
    assert TEXT[table.span.start :].startswith("[training]")
    assert TEXT[: table.span.end].endswith("'c4'")


def test_dates_blocks_and_templates_are_not_edited() -> None:
    reasons = [getattr(at(read(), "training", "inner", key), "fixed", None) or "" for key in ("when", "note")]
    assert ["date" in reasons[0], "several lines" in reasons[1]] == [True, True]
    assert "another program" in (getattr(at(read('a = "${b}"'), "a"), "fixed", None) or "")


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("a = 8 # c\r\n", 4, "a = 4 # c\r\n"),
        ("a=1_000", 250000, "a=250_000"),
        ("a = 0x10", 8, "a = 8"),
        ("a = 8e-4", 1e-5, "a = 1e-5"),
        ("a = 8.0E-04", 1.5e-5, "a = 1.5E-05"),
        ("a = 5e7", 2e8, "a = 2e8"),
        ("a = true", False, "a = false"),
        ("a = 'x'", "y", "a = 'y'"),
        ("a = 'x'", "it's", 'a = "it\'s"'),
        ('a = "x"', 'q"\n\x7f', 'a = "q\\"\\n\\u007f"'),
        ("a = 8", "full", 'a = "full"'),
        ("a = 8", [1, {"b": "c d", "e f": True}], 'a = [1, {b = "c d", "e f" = true}]'),
    ],
)
def test_a_new_value_has_the_notation_of_the_old_one(before: str, value: Any, after: str) -> None:
    source = Source.of(before, "c.toml")
    node = at(toml.parse(source), "a")
    assert isinstance(node, ScalarNode)
    assert apply(source, [replace(source, node, value)]) == after


@pytest.mark.parametrize(
    ("before", "path", "after", "value", "result"),
    [
        ("[t]\na = 1 # c\nb = 2\n", ("t",), "a", 5, "[t]\na = 1 # c\nx = 5\nb = 2\n"),
        ("[t]\n  a=1\n# b=2\n\n[u]\n", ("t",), None, 5, "[t]\n  a=1\n  x=5\n# b=2\n\n[u]\n"),
        ("[t]\na = 1\r\n[t.u]\r\nb = 2", ("t",), None, 5, "[t]\na = 1\r\nx = 5\r\n[t.u]\r\nb = 2"),
        ("[t] # empty\n[u]\n", ("t",), None, 5, "[t] # empty\nx = 5\n[u]\n"),
        ("[t]", ("t",), None, 5, "[t]\nx = 5"),
        ("a = [\n 1,\n]\nb = 2\n", (), "a", 5, "a = [\n 1,\n]\nx = 5\nb = 2\n"),
        ("m.a = 1\nb = 2\n", ("m",), None, 5, "m.a = 1\nm.x = 5\nb = 2\n"),
        ("[[t]]\na = 1\n[[t]]\nb = 1\n", ("t", 0), None, 5, "[[t]]\na = 1\nx = 5\n[[t]]\nb = 1\n"),
        ("m = {a = 1}\n", ("m",), None, 5, "m = {a = 1, x = 5}\n"),
        ("m = {}\n", ("m",), None, 5, "m = {x = 5}\n"),
        ("[t]\na = 1\n", (), None, {"m": True}, "[t]\na = 1\n\n[x]\nm = true\n"),
        ("[t]\na = 1", ("t",), None, {"m": True}, "[t]\na = 1\n\n[t.x]\nm = true"),
        ("", (), None, {"m": True}, "[x]\nm = true\n"),
    ],
)
def test_a_new_key_goes_where_a_person_would_write_it(
    before: str, path: tuple[str | int, ...], after: str | None, value: Any, result: str
) -> None:
    source = Source.of(before, "c.toml")
    assert apply(source, [insert(source, mapping(before, *path), "x", value, after)]) == result
    assert plain(at(read(result), *path, "x")) == value


def test_a_new_table_goes_behind_new_keys_at_the_same_place() -> None:
    text = "[t]\na = 1\n"
    source = Source.of(text, "c.toml")
    edits = [
        insert(source, mapping(text), "u", {"b": 2}),
        insert(source, mapping(text, "t"), "x", 5),
    ]
    assert apply(source, edits) == "[t]\na = 1\nx = 5\n\n[u]\nb = 2\n"


@pytest.mark.parametrize(
    ("text", "path", "value", "message"),
    [
        ("[a.b]\nc = 1\n", ("a",), 5, "where none is written"),
        ("[a]\nb = 1\n", (), 5, "where none is written"),
        ("[a]\nx = 1\n", ("a",), 5, "written here already"),
        ("[a.x]\ny = 1\n", ("a",), 5, "written here already"),
        ("[a]\nb = 1\n", ("a",), None, "no empty value"),
        ("[[a]]\nb = 1\n", ("a", 0), {"c": 1}, "no table can be inserted"),
        ("a.b = 1\n", ("a",), {"c": 1}, "below a key with dots"),
    ],
)
def test_where_no_place_is_safe_the_insertion_is_refused(
    text: str, path: tuple[str | int, ...], value: Any, message: str
) -> None:
    source = Source.of(text, "c.toml")
    with pytest.raises(EditRefusedError) as caught:
        insert(source, mapping(text, *path), "x", value)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a = 1\nb\n", 2, 2, "no '=' follows the key"),
        ("a = \n", 1, 5, "no value stands here"),
        ("a = 1 b = 2\n", 1, 7, "more text follows"),
        ("[a\n", 1, 3, "does not end here"),
        ("= 1\n", 1, 1, "no key stands here"),
        ("a = [1 2]\n", 1, 8, "no comma"),
        ("a = 1\na = 2\n", 2, 6, "overwrite"),
        ("a = 01\n", 1, 6, ""),
        ("a = 'x\n", 1, 5, "no value"),
        ("\ufeffa = 1\n", 1, 1, "no key"),
        (f"a = {10**31}\n", 1, 5, "beyond 10**30"),
        ("a = " + "[" * 101, 1, 105, "more than 100 deep"),
        (".".join("a" * 101) + " = 1", 1, 201, "more than 100 deep"),
    ],
)
def test_what_cannot_be_read_is_located(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(text)
    place = caught.value.location
    assert place is not None
    assert message in caught.value.message
    assert (place.line, place.column) == (line, column)


@pytest.mark.parametrize(
    "text",
    ["[" * 10**6, "a = " + '"' * 10**6, "a = 1" + " " * 10**6 + "x", "[[a]]\n" * 30_000, "[a]\n" * 200_000],
    ids=["brackets", "quotes", "blanks", "tables", "too many"],
)
def test_long_files_of_nothing_are_read_or_refused_quickly(text: str) -> None:
    started = time.process_time()
    try:
        assert len(plain(read(text))["a"]) == 30_000
    except DocumentError as error:
        assert error.location is not None
    assert time.process_time() - started < 20
