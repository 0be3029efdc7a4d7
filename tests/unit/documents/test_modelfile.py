"""Ollama's Modelfile: instructions, quotes over lines, parameters."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.documents import modelfile
from memplan.documents.edits import apply, insert, replace
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, ScalarNode, plain
from memplan.domain.errors import DocumentError, EditRefusedError

TEXT = '''# a model
FROM llama3.2:3b
parameter temperature 0.7
#PARAMETER num_ctx 2048
PARAMETER num_ctx "4096"
PARAMETER stop "USER: "
PARAMETER stop <end>

TEMPLATE """{{ .System }}
FROM x "quoted"
"""
SYSTEM You are "kind" and # brief
'''


def read(text: str) -> MappingNode:
    return modelfile.parse(Source.of(text, "Modelfile"))


def parameters(text: str) -> MappingNode:
    found = read(text).get("parameter")
    assert isinstance(found, MappingNode)
    return found


def test_instructions_and_parameters_are_read() -> None:
    assert plain(read(TEXT)) == {
        "from": "llama3.2:3b",
        "parameter": {"temperature": 0.7, "num_ctx": 4096, "stop": "<end>"},
        "template": '{{ .System }}\nFROM x "quoted"\n',
        "system": 'You are "kind" and # brief',
    }


def test_what_is_repeated_or_goes_over_lines_is_not_edited() -> None:
    stop, template = parameters(TEXT).get("stop"), read(TEXT).get("template")
    assert "2 times" in (getattr(stop, "fixed", None) or "")
    assert "several lines" in (getattr(template, "fixed", None) or "")


@pytest.mark.parametrize(
    ("key", "value", "old", "new"),
    [
        ("num_ctx", 8192, '"4096"', "8192"),
        ("temperature", 0.5, "0.7", "0.5"),
        ("temperature", "a b", "0.7", "a b"),
        ("temperature", " a", "0.7", '" a"'),
    ],
)
def test_a_parameter_is_replaced(key: str, value: Any, old: str, new: str) -> None:
    for text in (TEXT, TEXT.replace("\n", "\r\n"), "\ufeff" + TEXT):
        source = Source.of(text, "Modelfile")
        node = parameters(text).get(key)
        assert isinstance(node, ScalarNode)
        result = apply(source, [replace(source, node, value)])
        assert result == text.replace(old, new, 1)
        assert plain(parameters(result))[key] == value


def test_a_parameter_is_inserted_below_its_sibling() -> None:
    source = Source.of(TEXT, "Modelfile")
    result = apply(source, [insert(source, parameters(TEXT), "num_gpu", 20, "num_ctx")])
    assert result == TEXT.replace('"4096"\n', '"4096"\nPARAMETER num_gpu 20\n')


def test_the_first_parameters_are_inserted_below_the_model() -> None:
    text = "FROM a\r\nSYSTEM hi"
    source = Source.of(text, "Modelfile")
    edit = insert(source, read(text), "parameter", {"num_ctx": 8192, "num_gpu": 9}, "from")
    assert apply(source, [edit]) == "FROM a\r\nPARAMETER num_ctx 8192\r\nPARAMETER num_gpu 9\r\nSYSTEM hi"
    edit = insert(source, read(text), "template", "x")
    assert apply(source, [edit]) == text + "\r\nTEMPLATE x"


@pytest.mark.parametrize("value", ['say "hi"', "two\nlines", None])
def test_what_a_line_cannot_hold_is_refused(value: Any) -> None:
    source = Source.of(TEXT, "Modelfile")
    node = parameters(TEXT).get("temperature")
    assert isinstance(node, ScalarNode)
    with pytest.raises(EditRefusedError):
        replace(source, node, value)
    with pytest.raises(EditRefusedError, match="no name"):
        insert(source, parameters(TEXT), "a b", 1)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("FROM a\nHELLO b\n", 2, "no instruction is called HELLO"),
        ("FROM a\nFROM\n", 2, "no line of a Modelfile"),
        ("FROM a\nPARAMETER x\n", 2, "no line of a Modelfile"),
        ('FROM a\nSYSTEM """b\n', 2, "not closed"),
        ('FROM a\nSYSTEM "b\n', 2, "not closed"),
        ("FROM a\n- x\n", 2, "no line of a Modelfile"),
        (f"PARAMETER num_ctx {10**31}\n", 1, "beyond 10**30"),
    ],
)
def test_what_cannot_be_read_is_located(text: str, line: int, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(text)
    assert message in caught.value.message
    assert caught.value.location is not None
    assert caught.value.location.line == line
