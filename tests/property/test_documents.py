"""Laws of reading and editing documents."""

from __future__ import annotations

import itertools
import json as standard_json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from memplan.documents import json, yaml
from memplan.documents.assignments import find, read
from memplan.documents.edits import apply, insert, replace
from memplan.documents.source import Source, encode
from memplan.documents.tree import MappingNode, Node, ScalarNode, plain, scalars
from memplan.domain.edit import Span
from memplan.domain.errors import EditRefusedError, MemplanError

READERS: dict[str, Callable[[Source], Node]] = {"c.yaml": yaml.parse, "c.json": json.parse}

numbers = st.integers(-(10**12), 10**12)
floats = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.one_of(st.none(), st.booleans(), numbers, floats, texts)
keys = st.text("abcdefgh_", min_size=1, max_size=5)
WRITTEN = [
    *("8", "-3", "0x1F", "1_000", "0.5", "2.0e-5", "2e-5", "true", "No", "~", "", "none", "'q'", '"é😀"'),
    *("[1, {a: 2, b: }]", "{a: 1, b: 'x'}", "&n1 4", "|\n        block", "two\n        lines"),
]
trees = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
yaml_noise = st.text("ab:{}[]-&*!|>'\"#%@`,? \t\n\r0123456789.<$", max_size=60)
json_noise = st.text("{}[]\":,\\ \n\t0123456789.eE-truefalsn/#'u", max_size=60)
program_noise = st.text("ab=;(){}[]<>\"'#/*\\.:-+ \n\t0123456789,", max_size=60)


@st.composite
def yaml_documents(draw: st.DrawFn) -> str:
    """Mappings in the ways people write them, with comments, quotes, line endings and other languages."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = []
    for number, key in enumerate(draw(st.lists(keys, min_size=1, max_size=5, unique=True))):
        value = draw(st.sampled_from(WRITTEN)).replace("\n", end)
        comment = "" if "block" in value else draw(st.sampled_from(["", "  # note: 8", "\t# é"]))
        if value == "" or not draw(st.booleans()):
            lines.append(f"{key}_{number}: {value}{comment}")
        else:
            lines.append(f"{key}_{number}:{end}  - inner: {value}{comment}{end}    next: 7")
    text = end.join(lines) + draw(st.sampled_from(["", end, end + end]))
    return draw(st.sampled_from(["", "\ufeff", "# head" + end, "---" + end])) + text


def source_of(text: str, path: str) -> Source:
    return Source.of(text, path)


def leaves(node: Node) -> list[str]:
    return [repr(leaf.value) for leaf in scalars(node)]


@given(st.one_of(st.text(), yaml_noise, json_noise, program_noise))
@example("a: &a [*a]")
@example("? ? ? a")
@example("\ufeff%YAML 9.9\n---\n")
@example('"\\ud800"')
def test_reading_any_text_raises_nothing_but_our_errors(text: str) -> None:
    for path, reader in READERS.items():
        try:
            node = reader(source_of(text, path))
        except MemplanError as error:
            assert error.location is not None
            assert str(error)
        else:
            for leaf in scalars(node):
                assert text[leaf.span.start : leaf.span.end] == leaf.text


@settings(deadline=None)
@given(st.one_of(st.text(), program_noise), keys)
def test_reading_any_program_raises_nothing_but_our_errors(text: str, key: str) -> None:
    for path in ("t.py", "t.cpp"):
        source = source_of(text, path)
        for item in read(source).assignments:
            assert text[item.node.span.start : item.node.span.end] == item.node.text
        for near in (None, "a"):
            try:
                find(source, key, near)
            except MemplanError as error:
                assert str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60))
def test_any_bytes_are_kept_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config"
    path.write_bytes(data)
    try:
        source = Source.open(path)
    except MemplanError:
        return
    assert encode(source.text) == data


@given(trees, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_json_reads_back_what_the_standard_library_writes(value: Any, indent: Any, ascii_only: bool) -> None:
    text = standard_json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert repr(plain(json.parse(source_of(text, "c.json")))) == repr(standard_json.loads(text))


@given(json_noise)
def test_json_accepts_nothing_that_the_standard_library_refuses(text: str) -> None:
    try:
        value = plain(json.parse(source_of(text, "c.json")))
    except MemplanError:
        return
    assert repr(value) == repr(standard_json.loads(text))


@given(st.one_of(yaml_noise, yaml_documents()))
def test_yaml_reads_as_pyyaml_reads(text: str) -> None:
    import yaml as library

    try:
        expected = library.load(text, library.CSafeLoader)
    except Exception:
        assume(False)
    try:
        value = plain(yaml.parse(source_of(text, "c.yaml")))
    except MemplanError:
        return
    assert repr(value) == repr(expected)


def check_replacement(source: Source, number: int, value: Any) -> None:
    reader = READERS[source.path]
    before = list(scalars(reader(source)))
    node = before[number % len(before)]
    try:
        edit = replace(source, node, value)
    except EditRefusedError:
        assert node.fixed is not None
        return
    text = apply(source, [edit])
    assert text[: node.span.start] == source.text[: node.span.start]
    assert text.endswith(source.text[node.span.end :])
    again = source_of(text, source.path)
    after = list(scalars(reader(again)))
    index = before.index(node)
    assert isinstance(value, bool) is isinstance(after[index].value, bool)
    assert after[index].value == value
    expected = [repr(leaf.value) for leaf in before]
    expected[index] = repr(after[index].value)
    assert [repr(leaf.value) for leaf in after] == expected
    if after[index].fixed is None:  # a text with ${ or {% in it is no longer ours to change
        assert apply(again, [replace(again, after[index], value)]) == text


@settings(max_examples=300)
@given(yaml_documents(), st.integers(0, 30), values)
def test_a_replaced_yaml_value_reads_back_and_nothing_else_changes(
    text: str, number: int, value: Any
) -> None:
    check_replacement(source_of(text, "c.yaml"), number, value)


@given(
    st.dictionaries(keys, trees, min_size=1, max_size=3),
    st.sampled_from([None, 2, "\t"]),
    st.integers(0, 30),
    values,
)
def test_a_replaced_json_value_reads_back_and_nothing_else_changes(
    tree: Any, indent: Any, number: int, value: Any
) -> None:
    source = source_of(standard_json.dumps(tree, indent=indent), "c.json")
    assume(list(scalars(json.parse(source))))
    check_replacement(source, number, value)


@settings(deadline=None)
@given(st.sampled_from(["t.py", "t.cpp"]), values, values, st.sampled_from(["\n", "\r\n"]))
def test_a_replaced_literal_of_a_program_reads_back(path: str, old: Any, new: Any, end: str) -> None:
    opener, closer = ("", "") if path == "t.py" else ("void f() {" + end, ";" + end + "}")
    literal = (
        {True: "true", False: "false", None: "0"}.get(old, old)
        if path == "t.cpp" and not _is_number(old)
        else old
    )
    shown = (
        standard_json.dumps(literal, ensure_ascii=False) if path == "t.cpp" and isinstance(old, str) else None
    )
    shown = shown or (literal if path == "t.cpp" and not isinstance(old, str) else repr(literal))
    source = source_of(f"{opener}é = 1{';' if opener else ''}{end}c.n = {shown}{closer}{end}", path)
    try:
        item = find(source, "c.n")
        edit = replace(source, item.node, new)
    except MemplanError:
        return
    text = apply(source, [edit])
    assert text[: edit.span.start] == source.text[: edit.span.start]
    assert text.endswith(source.text[edit.span.end :])
    again = find(source_of(text, path), "c.n").node
    assert again.value == new
    assert apply(source_of(text, path), [replace(source_of(text, path), again, new)]) == text


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_insertion(source: Source, value: Any, after: str | None) -> None:
    reader = READERS[source.path]
    root = reader(source)
    assume(isinstance(root, MappingNode) and root.get("new") is None)
    assert isinstance(root, MappingNode)
    try:
        edit = insert(source, root, "new", value, after)
    except EditRefusedError:
        return
    text = apply(source, [edit])
    if edit.span.start == edit.span.end:
        assert text.startswith(source.text[: edit.span.start])
        assert text.endswith(source.text[edit.span.end :])
    again = reader(source_of(text, source.path))
    assert repr(sorted(plain(again).items(), key=repr)) == repr(
        sorted((plain(root) | {"new": plain(again)["new"]}).items(), key=repr)
    )
    assert plain(again)["new"] == value


@settings(max_examples=300)
@given(yaml_documents(), values, st.integers(0, 5))
def test_an_inserted_yaml_key_reads_back_and_nothing_else_changes(text: str, value: Any, number: int) -> None:
    source = source_of(text, "c.yaml")
    root = yaml.parse(source)
    assume(isinstance(root, MappingNode))
    assert isinstance(root, MappingNode)
    check_insertion(source, value, root.keys()[number % len(root.keys())])


@given(st.dictionaries(keys, trees, max_size=4), st.sampled_from([None, 2, "\t"]), values, st.none() | keys)
def test_an_inserted_json_key_reads_back(tree: Any, indent: Any, value: Any, after: str | None) -> None:
    check_insertion(source_of(standard_json.dumps(tree, indent=indent), "c.json"), value, after)


@given(
    st.text("abc\n", max_size=20),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), texts), max_size=4),
)
def test_edits_leave_every_character_outside_them(text: str, changes: list[tuple[int, int, str]]) -> None:
    from memplan.domain.edit import Edit

    source = source_of(text, "t")
    edits = [
        Edit(path="t", span=Span(start, start + width), replacement=new, line=1, before="", after="")
        for start, width, new in changes
    ]
    try:
        result = apply(source, edits)
    except ValueError:
        spans = sorted(edit.span for edit in edits)
        overlap = any(first.end > second.start for first, second in itertools.pairwise(spans))
        assert overlap or any(span.end > len(text) for span in spans)
        return
    assert len(result) == len(text) + sum(
        len(edit.replacement) - edit.span.end + edit.span.start for edit in edits
    )


@given(floats)
def test_every_float_reads_back_exactly(value: float) -> None:
    for text in ("a: 1", "a: 1.0e-5", "a: 0.5"):
        source = source_of(text, "c.yaml")
        root = yaml.parse(source)
        assert isinstance(root, MappingNode)
        node = root.get("a")
        assert isinstance(node, ScalarNode)
        again = yaml.parse(source_of(apply(source, [replace(source, node, value)]), "c.yaml"))
        assert plain(again)["a"] == value
        assert math.copysign(1, plain(again)["a"]) == math.copysign(1, value) or value == 0
