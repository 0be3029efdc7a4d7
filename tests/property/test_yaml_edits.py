"""Laws of editing YAML: whatever is written around it, only what was asked for changes, to every reader."""

from __future__ import annotations

from typing import Any

import yaml as library
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memplan.documents import yaml
from memplan.documents.edits import apply, insert, replace
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, Node, ScalarNode, SequenceNode, plain, scalars
from memplan.documents.yaml_resolvers import Resolver
from memplan.domain.errors import EditRefusedError, MemplanError

keys = st.sampled_from(["a", "b_c", "'q'", '"d e"', "é", "12", "on"])
inline = st.sampled_from(
    [
        *("8", "010", "2e-5", "1.0e-5", "0x1F", "1_000", "12:30", "on", "No", "~", "", "text", "a b # c"),
        *("'it''s'", '"é\\n😀"', "${x.y}", "{{ z }}", "[1, 2]", "[1, {a: 2}, ]", "{}", "{a: 1, b: }"),
        *("{a: 1, # c\n  b: [2]}", "{\n  a: 1,\n  b: 2 # c\n  }", "&k 4", "&l {a: 1}", "!!str 4", "*k"),
        *(
            "|\n  block\n  more",
            ">-\n    folded\n\n    on",
            "|+\n  kept\n",
            "two\n  lines",
            "'two\n\n  lines'",
        ),
    ]
)
comments = st.sampled_from(["", "", "", "  # note: 8", "\t# é", " #", "\n# a: 9", "\n\n  # far"])
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(
        ["2e-5", "1e5", "010", "on", "n", "null", "~", "12:30", "- a", "a: b", "#", "&a", "*a", "=", "<<"]
    ),
    st.sampled_from(
        ["2024-01-01", "0o17", ".5", "-.5", "1_0", "?", "%a", "@b", "`", "a #b", "[", "---", "..."]
    ),
)


@st.composite
def blocks(draw: st.DrawFn, depth: int = 0) -> list[str]:
    """Lines of a mapping or a list, to be indented by whoever holds them."""
    lines: list[str] = []
    listed = depth > 0 and draw(st.booleans())
    for key in draw(st.lists(keys, min_size=1, max_size=3, unique=True)):
        head = "-" if listed else f"{key}:"
        kind = draw(st.sampled_from(["inline"] * 3 + ["block"])) if depth < 3 else "inline"
        if kind == "inline":
            text, comment = draw(inline), draw(comments)
            keeps = text[:1] in ("|", ">")
            lines += f"{head} {text}{'' if keeps else comment}".split("\n")
            continue
        below = draw(blocks(depth + 1))
        if listed and draw(st.booleans()):
            lines += [f"-   {below[0]}", *(f"    {line}" if line else line for line in below[1:])]
            continue
        flat = below[0].startswith("-") and not listed and draw(st.booleans())
        indent = "" if flat else draw(st.sampled_from(["  ", "    "]))
        lines += [head + draw(st.sampled_from(["", "  # c", " &m", " &m # c"]))]
        lines += [f"{indent}{line}" if line else line for line in below]
    return lines


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Whole files, most of them YAML."""
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    head = draw(st.sampled_from(["", "", "# head\n", "---\n", "%YAML 1.1\n---\n", "base: &base {z: 1}\n"]))
    text = head + "\n".join(draw(blocks()))
    if head.startswith("base"):
        text += "\nmerged:\n  <<: *base\n  own: 1"
    text += draw(st.sampled_from(["", "\n", "\n\n", "\n# end", "\n...\n", "\n\t\n"]))
    return draw(st.sampled_from(["", "", "\ufeff"])) + text.replace("\n", end)


def read(text: str, resolver: Resolver = Resolver.PYYAML) -> Node:
    return yaml.parse(Source.of(text, "c.yaml"), resolver=resolver)


def readable(text: str, resolver: Resolver) -> Node:
    try:
        return read(text, resolver)
    except MemplanError:
        assume(False)
        raise


def mappings(node: Node, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], MappingNode]]:
    """Every mapping of a tree that is written there, with its path."""
    if isinstance(node, ScalarNode):
        return []
    if isinstance(node, SequenceNode):
        return [found for number, item in enumerate(node.items) for found in mappings(item, (*path, number))]
    below = [found for item in node.items for found in mappings(item.value, (*path, item.key.value))]
    return [(path, node), *below]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


@settings(max_examples=200, deadline=None)
@given(documents(), st.sampled_from(Resolver), st.integers(0, 40), values)
def test_a_replaced_value_reads_back_and_nothing_else_changes(
    text: str, resolver: Resolver, number: int, value: Any
) -> None:
    source = Source.of(text, "c.yaml")
    before = list(scalars(readable(text, resolver)))
    assume(before)
    node = before[number % len(before)]
    try:
        edit = replace(source, node, value)
    except EditRefusedError:
        return
    result = apply(source, [edit])
    assert result[: node.span.start] == text[: node.span.start]
    assert result.endswith(text[node.span.end :])
    after = list(scalars(read(result, resolver)))
    index = next(number for number, leaf in enumerate(before) if leaf is node)
    assert (after[index].value, isinstance(after[index].value, bool)) == (value, isinstance(value, bool))
    assert [repr(leaf.value) for leaf in after if leaf is not after[index]] == [
        repr(leaf.value) for leaf in before if leaf is not node
    ]


@settings(max_examples=200, deadline=None)
@given(documents(), st.sampled_from(Resolver), st.integers(0, 20), st.integers(0, 5), values)
def test_an_inserted_key_reads_back_and_nothing_else_changes(
    text: str, resolver: Resolver, number: int, sibling: int, value: Any
) -> None:
    source = Source.of(text, "c.yaml")
    root = readable(text, resolver)
    found = mappings(root)
    assume(found)
    path, mapping = found[number % len(found)]
    names = mapping.keys()
    try:
        edit = insert(source, mapping, "new", value, names[sibling % len(names)] if names else None)
    except EditRefusedError:
        return
    result = apply(source, [edit])
    read_back = plain(read(result, resolver))
    inserted = at(read_back, path).pop("new")
    assert (inserted, isinstance(inserted, bool)) == (value, isinstance(value, bool))
    assert repr(read_back) == repr(plain(root))
    try:
        library.load(text, library.CSafeLoader)
    except (library.YAMLError, ValueError):
        return  # equal anchors, impossible dates: the library refuses a little more than we do
    if resolver is Resolver.PYYAML:
        assert repr(at(library.load(result, library.CSafeLoader), path)["new"]) == repr(value)


@settings(max_examples=100, deadline=None)
@given(documents(), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 99)), min_size=2, max_size=4))
def test_several_edits_at_once_are_those_edits(text: str, changes: list[tuple[int, int]]) -> None:
    source = Source.of(text, "c.yaml")
    root = readable(text, Resolver.PYYAML)
    before = [leaf for leaf in scalars(root) if leaf.fixed is None]
    assume(before)
    chosen = {index % len(before): value for index, value in changes}
    edits = []
    for index, value in chosen.items():
        try:
            edits.append((index, replace(source, before[index], value)))
        except EditRefusedError:
            continue
    for number, (path, mapping) in enumerate(mappings(root)):
        try:
            edits.append((-1, insert(source, mapping, f"new_{number}", 5)))
        except EditRefusedError:
            assert path is not None
    result = apply(source, [edit for _, edit in reversed(edits)])
    after = [leaf for leaf in scalars(read(result)) if leaf.fixed is None]
    expected = [chosen.get(index, leaf.value) for index, leaf in enumerate(before)]
    found = [leaf.value for leaf in after]
    assert sum(value == 5 for value in found) >= sum(index < 0 for index, _ in edits)
    assert len(found) == len(expected) + sum(index < 0 for index, _ in edits)
