"""Reading YAML: values as PyYAML gives them, spans as written, and what must not be edited."""

from __future__ import annotations

import time
from typing import Any

import pytest

from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, Node, ScalarNode, SequenceNode, duplicate_keys, plain, scalars
from memplan.documents.yaml import parse
from memplan.domain.errors import DocumentError


def read(text: str) -> Any:
    return parse(Source.of(text, "c.yaml"))


def at(node: Node, *path: str | int) -> Any:
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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-0x1F", -31),
        ("010", 8),
        ("0b101", 5),
        ("1_000", 1000),
        ("12:30", 750),
        ("08", "08"),
        ("2e-5", "2e-5"),
        ("1e400", "1e400"),
        ("2.0e-5", 2.0e-5),
        (".5", 0.5),
        ("1:30.5", 90.5),
        (".inf", float("inf")),
        ("on", True),
        ("No", False),
        ("y", "y"),
        ("~", None),
        ("null", None),
        ("", None),
        ("2024-01-31", "2024-01-31"),
        ("'12'", "12"),
        ('"a\\tb"', "a\tb"),
        ("=", "="),
        ("a b  # c", "a b"),
    ],
)
def test_a_scalar_has_the_type_pyyaml_gives_it(text: str, value: object) -> None:
    found = at(read(f"key: {text}\n"), "key").value
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "text",
    [
        "key: VALUE\n",
        "key:   VALUE   # comment\n",
        "\ufeffkey: VALUE\n",
        "é: 😀\r\nkey: VALUE\r\n",
        "outer: {a: 1, key: VALUE }",
        "outer:\n- key: VALUE\n  b: 2",
        "a: &x\n  b: 1\nkey: &y  VALUE\n",
        '"key": VALUE',
        "? key\n: VALUE\n",
    ],
)
@pytest.mark.parametrize("value", ["12", "'a b'", '"é 😀"', "plain text"])
def test_a_span_covers_the_value_and_nothing_else(text: str, value: str) -> None:
    source = Source.of(text.replace("VALUE", value), "c.yaml")
    node = next(node for node in scalars(parse(source)) if node.text == value)
    assert source.text[node.span.start : node.span.end] == value
    assert node.fixed is None


def test_an_empty_value_has_an_empty_span_behind_the_colon() -> None:
    source = Source.of("a:   # none\nb: {c: , 'd':}\n", "c.yaml")
    root = parse(source)
    assert source.text[: at(root, "a").span.start] == "a:"
    assert source.text[: at(root, "b", "c").span.start].endswith("{c:")
    assert source.text[: at(root, "b", "d").span.start].endswith("'d':")
    assert at(root, "a").span.start == at(root, "a").span.end


def test_a_key_without_colon_is_fixed() -> None:
    assert "only its key" in at(read("{a, b: 1}"), "a").fixed
    assert "only its key" in at(read("? a\n"), "a").fixed
    assert "only its key" in at(read("? a-\n"), "a-").fixed
    assert at(read("- \n-\n"), 0).fixed is None


def test_an_empty_file_is_a_null_that_cannot_be_edited() -> None:
    for text in ("", "\ufeff", "# only a comment\n", "\n\n"):
        node = read(text)
        assert node.value is None
        assert node.fixed == "the file is empty"


def test_an_alias_and_its_anchor_are_both_fixed() -> None:
    root = read("a: &x 1\nb: *x\nc: &unused 2\nd: &m {e: 5}\nf: *m\n")
    assert plain(root) == {"a": 1, "b": 1, "c": 2, "d": {"e": 5}, "f": {"e": 5}}
    assert "anchored as &x" in at(root, "a").fixed
    assert "alias *x" in at(root, "b").fixed
    assert at(root, "b").text == "*x"
    assert at(root, "c").fixed is None
    assert at(root, "d", "e").fixed is not None
    assert at(root, "f", "e").fixed is not None
    assert at(root, "f").fixed is not None


def test_only_the_latest_of_equal_anchors_is_used() -> None:
    root = read("a: &x 1\nb: &x 2\nc: *x\n")
    assert at(root, "c").value == 2
    assert at(root, "a").fixed is None
    assert at(root, "b").fixed is not None


def test_merge_keys_are_read_and_fixed() -> None:
    root = read("base: &b {x: 1, y: 2}\nmore: &c {x: 5, z: 6}\nm:\n  <<: [*b, *c]\n  y: 3\nn: {<<: {q: 1}}\n")
    assert plain(at(root, "m")) == {"x": 1, "z": 6, "y": 3}
    assert at(root, "m", "y").fixed is None
    assert at(root, "m", "x").fixed is not None
    assert "merge key" in at(root, "n", "q").fixed
    assert duplicate_keys(root) == ()
    assert plain(read("'<<': 1")) == {"<<": 1}
    assert plain(read("!!str <<: 1")) == {"<<": 1}


def test_duplicate_keys_are_kept_flagged_and_fixed() -> None:
    source = Source.of("a: 1\nb: {c: 2}\na: {d: 3}\n", "c.yaml")
    root = parse(source)
    assert isinstance(root, MappingNode)
    assert plain(root) == {"a": {"d": 3}, "b": {"c": 2}}
    assert [source.location(key.span).line for key in duplicate_keys(root)] == [3]
    assert all(item.value.fixed for item in root.items if item.key.value == "a")
    assert at(root, "a", "d").fixed == "the key a is written 2 times"
    assert at(root, "b", "c").fixed is None


@pytest.mark.parametrize("text", ["${VAR}", "'{{ model }}'", "$(env)/x", '"{% if x %}"', "x${a.b}y"])
def test_a_text_another_program_fills_in_is_fixed(text: str) -> None:
    assert "another program" in at(read(f"a: {text}"), "a").fixed


def test_a_block_scalar_and_a_tagged_value_are_fixed() -> None:
    root = read("a: |\n  x\n\n  y\n\n\nb: !!int '3'\nc: !!str 4\n")
    assert plain(root) == {"a": "x\n\ny\n", "b": 3, "c": "4"}
    assert "several lines" in at(root, "a").fixed
    assert "!!int" in at(root, "b").fixed


def test_a_mapping_ends_where_its_last_value_ends() -> None:
    text = "m:\n  a: 1\n  b: [1,\n    2]   # c\n\n# d\nz: 1\n"
    assert text[: at(read(text), "m").span.end].endswith("2]")
    text = "m:\n  a: |\n    x\n\n\nz: 1\n"
    assert text[: at(read(text), "m").span.end].endswith("    x")


def test_the_line_of_a_key_is_known() -> None:
    source = Source.of("a: 1\nb: 2\n")
    root = parse(source)
    assert isinstance(root, MappingNode)
    assert root.line("b", source) == 2
    assert root.line("c", source) is None
    assert root.keys() == ("a", "b")


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: 1\n b: 2\n", 2, 3, "mapping values are not allowed"),
        ("a: 1\n\tb: 2\n", 2, 1, "not valid YAML"),
        ("a: [1, 2\nb: 3\n", 2, 2, "not valid YAML"),
        ("a: 'x\n", 2, 1, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, 1, "several YAML documents"),
        ("---\n---\nb: 2\n", 2, 1, "several YAML documents"),
        ("a: !!python/object/apply:os.system ['x']\n", 1, 4, "is not plain YAML"),
        ("a: !custom 3\n", 1, 12, "is not plain YAML"),
        ("a: *gone\n", 1, 4, "no value is anchored as &gone"),
        ("a: &x [*x]\n", 1, 8, "inside the value it stands for"),
        ("? [a, b]\n: 1\n", 1, 3, "a key must be a plain value"),
        ("<<: 3\n", 1, 5, "merge key << takes a mapping"),
        ("a: 1\nb: 1.0e+400\n", 2, 4, "larger than floating point"),
        (f"a: {10**31}\n", 1, 4, "beyond 10**30"),
        (f"a: {'9' * 5000}\n", 1, 4, "more than 400 characters"),
        ("a: 0b_\n", 1, 4, "is not an integer"),
        ("a: !!int x\n", 1, 10, "is not an integer"),
        ("a: !!bool x\n", 1, 11, "is not a truth value"),
        ("a: \x01\n", 1, 4, "U+0001"),
        ("a: {{ x }}\n", 1, 5, "a key must be a plain value"),
    ],
)
def test_what_cannot_be_read_is_located(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(text)
    assert message in str(caught.value)
    assert caught.value.location is not None
    assert (caught.value.location.line, caught.value.location.column) == (line, column)


def test_tabs_and_templates_are_explained() -> None:
    with pytest.raises(DocumentError) as caught:
        read("a:\n\tb: 1\n")
    assert "indent with spaces" in (caught.value.hint or "")
    with pytest.raises(DocumentError) as caught:
        read("a: {{ x }}\n")
    assert "render the template" in (caught.value.hint or "")
    with pytest.raises(DocumentError) as caught:
        read("{% if x %}\na: 1\n{% endif %}\n")
    assert "render the template" in (caught.value.hint or "")


def test_a_second_document_that_is_empty_does_no_harm() -> None:
    assert plain(read("---\na: 1\n---\n")) == {"a": 1}
    assert plain(read("a: 1\n...\n")) == {"a": 1}


def test_nesting_is_limited_without_recursion() -> None:
    assert plain(read("[" * 100 + "]" * 100)) is not None
    for text in ("[" * 101 + "]" * 101, "[" * 200_000, "- " * 5000 + "x", "{a: " * 300):
        with pytest.raises(DocumentError, match="more than 100 deep"):
            read(text)


def test_aliases_that_multiply_are_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    started = time.process_time()
    with pytest.raises(DocumentError, match="aliases stand for more than"):
        read("\n".join(lines))
    merges = ["a: &a {" + ", ".join(f"k{n}: 1" for n in range(1000)) + "}"]
    merges += [f"m{n}: {{<<: *a}}" for n in range(200)]
    with pytest.raises(DocumentError, match="aliases stand for more than"):
        read("\n".join(merges))
    nested = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200)]
    with pytest.raises(DocumentError, match="more than 100 deep"):
        read("\n".join(nested))
    assert time.process_time() - started < 30


def test_the_pure_python_loader_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    text = "\ufeffa: {b: , c: 1}\r\nd: &x\r\n  e: 'é😀'\r\nf: *x\r\n? g\r\n: [1, 2.5e+3]\r\nh:\r\n"
    fast = read(text)
    monkeypatch.delattr(yaml, "CSafeLoader")
    slow = read(text)
    assert fast == slow
    assert isinstance(at(slow, "h"), ScalarNode)


def test_a_file_of_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from memplan.documents import yaml as module

    monkeypatch.setattr(module, "LARGEST_DOCUMENT", 20)
    assert len(plain(read("- 1\n" * 15))) == 15
    with pytest.raises(DocumentError, match="more than 20 values"):
        read("- 1\n" * 30)
