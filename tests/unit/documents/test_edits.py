"""Replacing values: the notation that stood there stays, and every other character too."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.documents import cpp, json, python, yaml
from memplan.documents.edits import apply, replace
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, ScalarNode
from memplan.domain.edit import Edit, Span
from memplan.domain.errors import EditRefusedError


def scalar(source: Source, key: str) -> ScalarNode:
    if source.path.endswith(".py"):
        return python.assignments(source)[0].node
    if source.path.endswith(".cpp"):
        return cpp.assignments(source)[0].node
    root = json.parse(source) if source.path.endswith(".json") else yaml.parse(source)
    assert isinstance(root, MappingNode)
    node = root.get(key)
    assert isinstance(node, ScalarNode)
    return node


def rewritten(path: str, text: str, value: Any) -> str:
    source = Source.of(text, path)
    return apply(source, [replace(source, scalar(source, "a"), value)])


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("a: 8   # c\nb: 1\n", 4, "a: 4   # c\nb: 1\n"),
        ("a: 8", 4, "a: 4"),
        ("\ufeffa: 8\r\n", 4, "\ufeffa: 4\r\n"),
        ("b: 'é😀'\r\na:\t8\r\n", 16, "b: 'é😀'\r\na:\t16\r\n"),
        ("{a: 8, b: [1]}", 4, "{a: 4, b: [1]}"),
        ("a: 1_000", 250000, "a: 250_000"),
        ("a: 0x10", 8, "a: 8"),
        ("a: 010", 9, "a: 9"),
        ("a: true", False, "a: false"),
        ("a: True", False, "a: False"),
        ("a: YES", False, "a: NO"),
        ("a: off", True, "a: on"),
        ("a: 1", True, "a: true"),
        ("a: 0.9", 0.85, "a: 0.85"),
        ("a: 0.9", 1, "a: 1.0"),
        ("a: 2.0e-5", 1e-5, "a: 1.0e-5"),
        ("a: 2.0E-05", 1.5e-6, "a: 1.5E-06"),
        ("a: 0.00002", 1e-5, "a: 0.00001"),
        ("a: 2e-5", 1e-5, "a: 1.0e-5"),
        ("a: 1", 1e22, "a: 1.0e+22"),
        ("a: none", "full", "a: full"),
        ("a: none", "true", 'a: "true"'),
        ("a: none", "12", 'a: "12"'),
        ("a: none", "a: b", 'a: "a: b"'),
        ("a: 'none'", "full", "a: 'full'"),
        ("a: 'none'", "it's", "a: 'it''s'"),
        ("a: 'none'", "x\ny", 'a: "x\\ny"'),
        ('a: "none"', "é\u2028\x85", 'a: "é\\u2028\\u0085"'),
        ('a: "none"', 3, "a: 3"),
        ("a: 3", "x", "a: x"),
        ("a: 3", None, "a: null"),
        ("a: ~", None, "a: ~"),
        ("a: null", 3, "a: 3"),
        ("a:\nb: 1\n", 3, "a: 3\nb: 1\n"),
        ("a:   # c\n", 3, "a: 3   # c\n"),
        ("a: &x\nb: 1\n", 3, "a: &x 3\nb: 1\n"),
        ("a: &x 1\n", 3, "a: &x 3\n"),
        ("a: none", {"every": 2}, "a: {every: 2}"),
        ("a: 1", [1, "a, b", True], 'a: [1, "a, b", true]'),
        ("a: one\n  two # c\n", "x", "a: x # c\n"),
        ("a:", None, "a:"),
    ],
)
def test_yaml_keeps_its_notation(before: str, value: Any, after: str) -> None:
    assert rewritten("c.yaml", before, value) == after


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ('{"a": 8}', 4, '{"a": 4}'),
        ('{\n\t"a" : 8 ,\r\n\t"b": 2}', 4, '{\n\t"a" : 4 ,\r\n\t"b": 2}'),
        ('{"a": true}', False, '{"a": false}'),
        ('{"a": "x"}', 'é"\n', '{"a": "é\\"\\n"}'),
        ('{"a": "\\u00e9"}', "é!", '{"a": "\\u00e9!"}'),
        ('{"a": 1e-5}', 2e-5, '{"a": 2e-5}'),
        ('{"a": 5e7}', 1e22, '{"a": 1e22}'),
        ('{"a": 1.0e-5}', 2e-5, '{"a": 2.0e-5}'),
        ('{"a": 1}', None, '{"a": null}'),
        ('{"a": "auto"}', {"b": [1]}, '{"a": {"b": [1]}}'),
    ],
)
def test_json_keeps_its_notation(before: str, value: Any, after: str) -> None:
    assert rewritten("c.json", before, value) == after


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("a: int = 2048  # Quadrupled\n", 768, "a: int = 768  # Quadrupled\n"),
        ("a = 1_000_000\n", 500000, "a = 500_000\n"),
        ("a = -1", 5, "a = 5"),
        ("a = 3", -5, "a = -5"),
        ("a = True", False, "a = False"),
        ("a = None", 4, "a = 4"),
        ("a = 4", None, "a = None"),
        ("a = 2e-4", 1e-4, "a = 1e-4"),
        ("a = 2e-4", 1.5e-7, "a = 1.5e-7"),
        ("a = 'x'", "it's", "a = 'it\\'s'"),
        ('a = "x"', 'a"\\\n', 'a = "a\\"\\\\\\n"'),
    ],
)
def test_python_keeps_its_notation(before: str, value: Any, after: str) -> None:
    assert rewritten("c.py", before, value) == after


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("int a = 32768; // MAX", 8192, "int a = 8192; // MAX"),
        ("auto a = 32'768ul;", 8192, "auto a = 8'192ul;"),
        ("auto a = 0xFFu;", 8, "auto a = 8u;"),
        ("float a = 0.5f;", 0.25, "float a = 0.25f;"),
        ("float a = 2.f;", 3, "float a = 3.0f;"),
        ("float a = 1e-3F;", 1e-4, "float a = 1e-4F;"),
        ("bool a{true};", False, "bool a{false};"),
        ("#define a 8 // c\n", 4, "#define a 4 // c\n"),
        ('auto a = "x";', "y", 'auto a = "y";'),
    ],
)
def test_cpp_keeps_its_notation(before: str, value: Any, after: str) -> None:
    assert rewritten("c.cpp", before, value) == after


@pytest.mark.parametrize(
    ("path", "text", "value", "reason"),
    [
        ("c.yaml", "a: *x\nb: &x 1\n".replace("a: *x\nb: &x 1", "b: &x 1\na: *x"), 2, "alias *x"),
        ("c.yaml", "a: ${X}", 2, "another program"),
        ("c.yaml", "a: |\n  x\n", "y", "several lines"),
        ("c.yaml", "a: 1\na: 2\n", 3, "written 2 times"),
        ("c.yaml", "a: 1", float("nan"), "not a finite number"),
        ("c.yaml", "a: 1", "\ud800", "surrogate"),
        ("c.yaml", "a: x\n  \t\n", "12", "what follows belongs to it"),
        ("c.yaml", "a: 'x'# c\n", 12, "what follows belongs to it"),
        ("c.py", "a = y * 8", 20, "an expression"),
        ("c.py", "a = b = 8", 20, "several names"),
        ("c.py", "a = 1", [1], "no collections"),
        ("c.py", "a = 'x'", "\x00", "control character"),
        ("c.cpp", "int a = N * 2;", 20, "an expression"),
        ("c.cpp", "int a = 8;", None, "no empty value"),
        ("c.cpp", "unsigned a = 8u;", -1, "unsigned"),
        ("c.cpp", "void f() { a = b = 8; }", 20, "several names"),
    ],
)
def test_a_value_that_must_not_change_is_refused_with_place_and_reason(
    path: str, text: str, value: Any, reason: str
) -> None:
    with pytest.raises(EditRefusedError, match="rewritten") as caught:
        rewritten(path, text, value)
    assert reason in caught.value.message
    assert caught.value.location is not None
    assert caught.value.location.path == path


def test_an_edit_tells_what_it_changes() -> None:
    source = Source.of("b: 1\na: 8 # c\n", "c.yaml")
    edit = replace(source, scalar(source, "a"), 4)
    assert edit == Edit(path="c.yaml", span=Span(8, 9), replacement="4", line=2, before="8", after="4")


def test_a_value_that_is_there_keeps_its_text() -> None:
    for text, value in (("a: 0x10", 16), ("a: 1.50", 1.5), ("a: Yes", True), ("a: 'x'", "x"), ("a: 2.0", 2)):
        assert rewritten("c.yaml", text, value) == text
    assert rewritten("c.yaml", "a: 1", True) == "a: true"
    assert rewritten("c.yaml", "a: yes", 1) == "a: 1"


def test_bytes_are_written_as_plain_integers() -> None:
    from memplan.domain.bytes import Bytes

    assert rewritten("c.yaml", "a: 1", Bytes(2048)) == "a: 2048"


def test_edits_may_touch_but_not_overlap_leave_the_text_or_the_file() -> None:
    source = Source.of("abcdef", "t")

    def edit(start: int, end: int, text: str, path: str = "t") -> Edit:
        return Edit(path=path, span=Span(start, end), replacement=text, line=1, before="", after="")

    assert apply(source, []) == "abcdef"
    edits = [edit(3, 3, "2"), edit(1, 3, "X"), edit(3, 3, "3"), edit(6, 6, "!"), edit(0, 0, ">")]
    assert apply(source, edits) == ">aX23def!"
    with pytest.raises(ValueError, match="overlap"):
        apply(source, [edit(1, 3, "X"), edit(2, 4, "Y")])
    with pytest.raises(ValueError, match="behind its end"):
        apply(source, [edit(5, 9, "X")])
    with pytest.raises(ValueError, match="does not belong"):
        apply(source, [edit(0, 1, "X", "other")])
