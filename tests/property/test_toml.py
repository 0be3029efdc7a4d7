"""Laws of reading and editing TOML and Python configs."""

from __future__ import annotations

import json as standard_json
import tomllib
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from memplan.documents import python, toml
from memplan.documents.edits import apply, insert, replace
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, ScalarNode, SequenceNode, plain, scalars
from memplan.domain.errors import EditRefusedError, MemplanError

keys = st.one_of(
    st.text("abcxyz_-09", min_size=1, max_size=4),
    st.sampled_from(['"a b"', "'.'", '"\\u00e9"', "a.b", "x . 'y'", "é"]),
)
written = st.sampled_from(
    [
        *("8", "-3", "+1", "0x1F", "1_000", "0.5", "2e-5", "5E+7", "inf", "true", "false"),
        *('"q"', "'it'", '"\\t#\\""', '"""a\n""b"""', "'''\n'x'\n'''", '""""a"""""', "'é😀'"),
        *("1979-05-27", "1979-05-27 07:32:00Z", "07:32:00", "[1, 2]", "[\n  1, # c\n  [2],\n]", "[]"),
        *("{a = 1, b.c = 'x'}", "{}", "[{a = 1}, {b = [2]}]", "01", "1979-5-27", "'open", "{a = 1,}"),
    ]
)
values = st.one_of(
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
noise = st.text("ab1.=[]{}\"'#,\\_-+:eT \t\n\r", max_size=40)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Tables and pairs in the ways people write them; not all of them are TOML."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = []
    for _ in range(draw(st.integers(1, 7))):
        key = draw(keys)
        kind = draw(st.sampled_from(["pair"] * 4 + ["table", "array", "comment"]))
        comment = draw(st.sampled_from(["", "  # é: 8", "\t#"]))
        indent, equals = draw(st.sampled_from(["", "  "])), draw(st.sampled_from([" = ", "=", "   = "]))
        lines.append(
            {
                "pair": indent + key + equals + draw(written) + comment,
                "table": f"[{key}]{comment}",
                "array": f"[[ {key} ]]{comment}",
                "comment": "# x = 1",
            }[kind]
        )
    return end.join(lines).replace("\r\n", "\n").replace("\n", end) + draw(
        st.sampled_from(["", end, end + end])
    )


def meaning(text: str) -> dict[str, Any] | None:
    """What the standard library reads, with dates as they are written; None where it refuses."""
    try:
        return tomllib.loads(text)
    except ValueError:
        return None


def same(node: Any, expected: Any) -> bool:
    """Whether a tree has the library's values; a date keeps its text."""
    if isinstance(node, MappingNode):
        found = {item.key.value: item.value for item in node.items}
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in found)
    if isinstance(node, SequenceNode):
        return len(node.items) == len(expected) and all(map(same, node.items, expected))
    assert isinstance(node, ScalarNode)
    if node.fixed == "it is a date":
        return bool(expected == tomllib.loads(f"x = {node.text}")["x"])
    return repr(node.value) == repr(expected)


@settings(max_examples=150)
@given(st.one_of(documents(), noise, st.text(max_size=20)))
@example("a = 1\n[a.b]\n")
@example("[a.b]\nc = 1\n[a]\nb.c = 2\n")
@example("[[a]]\n[[a.b]]\n[a.b.c]\nd = 1\n[[a]]\n")
@example("[a]\nb.c = 1\n[a.b.d]\n")
@example('a = """\\\n  b"""\r\n')
def test_toml_reads_as_the_standard_library_reads(text: str) -> None:
    expected = meaning(text)
    try:
        root = toml.parse(Source.of(text, "c.toml"))
    except MemplanError as error:
        assert expected is None
        assert error.location is not None
        return
    assert expected is not None
    assert same(root, expected)
    for leaf in scalars(root):
        assert text[leaf.span.start : leaf.span.end] == leaf.text


@settings(max_examples=150)
@given(documents(), st.integers(0, 30), values)
def test_a_replaced_toml_value_reads_back_and_nothing_else_changes(
    text: str, number: int, value: Any
) -> None:
    assume(meaning(text) is not None)
    source = Source.of(text, "c.toml")
    before = list(scalars(toml.parse(source)))
    assume(before)
    index = number % len(before)
    node = before[index]
    try:
        edit = replace(source, node, value)
    except EditRefusedError:
        assert node.fixed is not None
        return
    result = apply(source, [edit])
    assert result[: node.span.start] == text[: node.span.start]
    assert result.endswith(text[node.span.end :])
    again = Source.of(result, "c.toml")
    after = list(scalars(toml.parse(again)))
    assert isinstance(after[index].value, bool) is isinstance(value, bool)
    assert after[index].value == value
    assert [repr(leaf.value) for leaf in after if leaf is not after[index]] == [
        repr(leaf.value) for leaf in before if leaf is not node
    ]
    if after[index].fixed is None:  # a text with ${ or {% in it is no longer ours to change
        assert apply(again, [replace(again, after[index], value)]) == result


def tables(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], MappingNode]]:
    """Every mapping of a tree with its path."""
    if isinstance(node, ScalarNode):
        return []
    if isinstance(node, SequenceNode):
        return [found for number, item in enumerate(node.items) for found in tables(item, (*path, number))]
    below = [found for item in node.items for found in tables(item.value, (*path, item.key.value))]
    return [(path, node), *below]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


@settings(max_examples=150)
@given(documents(), st.integers(0, 30), st.integers(0, 5), st.one_of(values, st.just({"m": True, "n": [1]})))
def test_an_inserted_toml_key_reads_back_and_nothing_else_changes(
    text: str, number: int, sibling: int, value: Any
) -> None:
    expected = meaning(text)
    assume(expected is not None)
    source = Source.of(text, "c.toml")
    found = tables(toml.parse(source))
    path, mapping = found[number % len(found)]
    assume(mapping.get("new") is None)
    after = mapping.keys()[sibling % len(mapping.keys())] if mapping.items else None
    try:
        edit = insert(source, mapping, "new", value, after)
    except EditRefusedError:
        return
    result = apply(source, [edit])
    if edit.span.start == edit.span.end:
        assert result.startswith(text[: edit.span.start])
        assert result.endswith(text[edit.span.end :])
    read = tomllib.loads(result)
    assert at(read, path).pop("new") == value
    assert repr(read) == repr(expected) or read == expected or "nan" in text


names = st.text("abcdefgh_", min_size=1, max_size=5).filter(lambda name: name not in ("_",))
literals = st.sampled_from(
    [
        "8",
        "-3",
        "1_000",
        "0.5",
        "2e-5",
        "True",
        "None",
        "'q'",
        '"é😀"',
        "5 * 8",
        "(1 + 2) // 2",
        "f(x)",
        "[1,\n 2]",
    ]
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(names, literals, st.sampled_from(["", "  # 8"])), min_size=1, max_size=5),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(0, 10),
    values,
)
def test_a_python_config_is_edited_and_nothing_else_changes(
    lines: list[tuple[str, str, str]], end: str, number: int, value: Any
) -> None:
    text = end.join(
        f"{name}_{index} = {literal}{comment}" for index, (name, literal, comment) in enumerate(lines)
    )
    text = text.replace("\r\n", "\n").replace("\n", end) + end
    source = Source.of(text, "c.py")
    root = python.parse(source)
    item = root.items[number % len(root.items)]
    assert isinstance(item.value, ScalarNode)
    try:
        edits = [replace(source, item.value, value)]
    except EditRefusedError:
        edits = []
    try:
        edits.append(insert(source, root, "new", value, str(item.key.value)))
    except EditRefusedError:
        assert standard_json.dumps(value) != repr(value)
    result = apply(source, edits)
    read = plain(python.parse(Source.of(result, "c.py")))
    changed = [edit for edit in edits if edit.span.start < edit.span.end]
    expected = plain(root) | ({item.key.value: value} if changed else {})
    assert {name: found for name, found in read.items() if name != "new"} == expected
    assert len(edits) == len(changed) or read["new"] == value
    compile(result, "c.py", "exec")
