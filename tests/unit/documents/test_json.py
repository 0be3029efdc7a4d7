"""Reading JSON: the standard library's values, with spans, located errors and limits."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from memplan.documents.edits import apply, insert, replace
from memplan.documents.json import parse
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, ScalarNode, duplicate_keys, plain, scalars
from memplan.domain.errors import DocumentError


def read(text: str) -> Any:
    return parse(Source.of(text, "c.json"))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": [true, false, null, -0, 1.5e-3, 2E+2, -0.0]}',
        '{\n\t"a": {\n\t\t"b": [\n\t\t]\n\t}\n}\n',
        '"\\u00e9\\ud83d\\ude00 \\" \\\\ \\/ \\b\\f\\n\\r\\t"',
        " [ ] ",
        "12",
        '{"": {"": ""}}',
        '"é😀\u2028"',
        "[Infinity, -Infinity]",
        '{"a": 1, "a": 2}',
    ],
)
def test_values_are_those_of_the_standard_library(text: str) -> None:
    assert repr(plain(read(text))) == repr(json.loads(text))


def test_nan_and_a_byte_order_mark_are_read() -> None:
    assert math.isnan(read("\ufeff NaN").value)


def test_spans_cover_the_values_as_written() -> None:
    source = Source.of('\ufeff{"é😀": "x\\n",\r\n\t"b": [-1.50, true]}', "c.json")
    texts = [source.text[node.span.start : node.span.end] for node in scalars(parse(source))]
    assert texts == ['"x\\n"', "-1.50", "true"]
    assert [node.text for node in scalars(parse(source))] == texts


def test_duplicate_keys_and_interpolations_are_fixed() -> None:
    root = read('{"a": 1, "b": "${x}", "a": {"c": 2}, "d": 3}')
    assert isinstance(root, MappingNode)
    assert [key.text for key in duplicate_keys(root)] == ['"a"']
    assert [node.fixed is None for node in scalars(root)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("", 1, 1, "the file is empty", None),
        ("\ufeff \n", 2, 1, "the file is empty", None),
        ('{"a": 1,\n}', 1, 8, "a comma follows the last value", "remove the comma"),
        ("[1, 2,]", 1, 6, "a comma follows the last value", "remove the comma"),
        ('{"a": 1\n"b": 2}', 2, 1, "two values without a comma", None),
        ('{"a" 1}', 1, 6, "no ':' follows", None),
        ("{a: 1}", 1, 2, "no key stands here", "double quotes"),
        ("{'a': 1}", 1, 2, "no key stands here", "double quotes"),
        ("{\"a\": 'x'}", 1, 7, "no value stands here", "double quotes"),
        ('{"a": 1 // c\n}', 1, 9, "two values without a comma", None),
        ('{// c\n"a": 1}', 1, 2, "no key stands here", "remove the comment"),
        ('{"a": # c\n1}', 1, 7, "no value stands here", "remove the comment"),
        ('{"a": True}', 1, 7, "no value stands here", None),
        ('{"a": }', 1, 7, "no value stands here", None),
        ('{"a": 01}', 1, 7, "this is not a number", None),
        ('{"a": 1.}', 1, 7, "this is not a number", None),
        ('{"a": .5}', 1, 7, "no value stands here", None),
        ('{"a": +5}', 1, 7, "no value stands here", None),
        ('{"a": ٣}', 1, 7, "this is not a number", None),
        ('{"a": -}', 1, 7, "no value stands here", None),
        ('{"a": 1e400}', 1, 7, "larger than floating point", None),
        (f'{{"a": {10**31}}}', 1, 7, "beyond 10**30", None),
        (f'{{"a": {"9" * 5000}}}', 1, 7, "beyond 10**30", None),
        (f'{{"a": 0.{"9" * 5000}}}', 1, 7, "too long", None),
        ('{"a": "x', 1, 7, "no closing quote", None),
        ('{"a": "x\n"}', 1, 7, "no closing quote", None),
        ('{"a": "x\ty"}', 1, 9, "control character", None),
        ('{"a": "\\q"}', 1, 8, "no such escape", None),
        ('{"a": "\\ud800"}', 1, 7, "surrogate", None),
        ('{"a": 1', 1, 8, "the file ends here", None),
        ('{"a"', 1, 5, "no ':' follows", None),
        ("[1", 1, 3, "the file ends here", None),
        ("{", 1, 2, "the file ends inside an object", None),
        ("{} x", 1, 4, "more text follows", None),
    ],
)
def test_what_cannot_be_read_is_located(
    text: str, line: int, column: int, message: str, hint: str | None
) -> None:
    with pytest.raises(DocumentError) as caught:
        read(text)
    assert message in caught.value.message
    assert caught.value.location is not None
    assert (caught.value.location.line, caught.value.location.column) == (line, column)
    assert (hint or "") in (caught.value.hint or "")


def test_nesting_is_limited() -> None:
    assert plain(read("[" * 100 + "]" * 100)) is not None
    for text in ("[" * 101 + "]" * 101, "[" * 100_000, '{"a":' * 200):
        with pytest.raises(DocumentError, match="more than 100 deep"):
            read(text)


def test_a_long_string_without_end_is_refused_at_once() -> None:
    with pytest.raises(DocumentError, match="no closing quote"):
        read('"' + "a" * 100_000)


COMMENTED = """// DeepSpeed
{
  "a": 1, # micro
  /* "b": 2, */
  "zero": {"stage": 2, "size": 5e8,}, // sharding
  "list": [1, 2,],
}
"""


def test_comments_and_last_commas_are_read_where_the_reader_takes_them() -> None:
    source = Source.of(COMMENTED, "ds.json")
    root = parse(source, comments=True)
    assert plain(root) == {"a": 1, "zero": {"stage": 2, "size": 5e8}, "list": [1, 2]}
    with pytest.raises(DocumentError, match="no value stands here"):
        parse(source)


def test_edits_keep_comments_with_what_they_are_about() -> None:
    source = Source.of(COMMENTED, "ds.json")
    root = parse(source, comments=True)
    assert isinstance(root, MappingNode)
    zero = root.get("zero")
    assert isinstance(zero, MappingNode)
    size = zero.get("size")
    assert isinstance(size, ScalarNode)
    edits = [insert(source, root, "x", 5, "a"), replace(source, size, 2e8), insert(source, root, "y", 6)]
    expected = COMMENTED.replace("# micro\n", '# micro\n  "x": 5,\n').replace("5e8", "2e8")
    assert apply(source, edits) == expected.replace("2,],\n", '2,],\n  "y": 6,\n')


@pytest.mark.parametrize("text", ["{,}", "[,]", '{"a": 1,,}', "[1 2]", '{"a": 1 /* }', "[1,", "/", "# only"])
def test_other_faults_stay_faults_with_comments(text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(Source.of(text, "ds.json"), comments=True)
    assert caught.value.location is not None
