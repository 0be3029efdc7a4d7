"""Laws of JSON with comments: they change no value, and no edit changes them."""

from __future__ import annotations

import json as standard_json
import re
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memplan.documents import json
from memplan.documents.edits import apply, insert, replace
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, Node, ScalarNode, SequenceNode, plain, scalars
from memplan.domain.errors import EditRefusedError, MemplanError

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+|\s+')
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-99, 99),
    st.sampled_from([2e-5, 5e8]),
    st.text('a"\\é/#*', max_size=4),
)
keys = st.text("abc", min_size=1, max_size=2)
trees = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
comments = st.sampled_from(
    ["", "", "", " ", "/**/", "/* , } */", "// 8, {\n", '# "x": 1\n', "\n", "/* * / **/"]
)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, Any]:
    """A text with comments between its tokens and commas behind last values, and what it means."""
    tree = draw(st.dictionaries(keys, trees, min_size=1, max_size=3))
    text = standard_json.dumps(tree, indent=draw(st.sampled_from([None, 2, "\t"])), ensure_ascii=False)
    pieces: list[str] = []
    for token in TOKEN.findall(text):
        last = next((piece for piece in reversed(pieces) if piece.strip() and piece[0] not in "/#"), "")
        if token in "]}" and last not in ("", "[", "{") and draw(st.booleans()):
            pieces.append(",")
        pieces += [draw(comments), token]
    return "".join(pieces) + draw(comments), tree


def mappings(node: Node, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], MappingNode]]:
    if isinstance(node, ScalarNode):
        return []
    if isinstance(node, SequenceNode):
        return [found for number, item in enumerate(node.items) for found in mappings(item, (*path, number))]
    below = [found for item in node.items for found in mappings(item.value, (*path, item.key.value))]
    return [(path, node), *below]


def read(text: str) -> Node:
    return json.parse(Source.of(text, "c.json"), comments=True)


@settings(max_examples=200)
@given(documents())
def test_comments_change_no_value(document: tuple[str, Any]) -> None:
    text, tree = document
    assert plain(read(text)) == tree
    try:
        strict = plain(json.parse(Source.of(text, "c.json")))
    except MemplanError:
        return
    assert strict == tree == standard_json.loads(text)


@settings(max_examples=200)
@given(documents(), st.integers(0, 20), st.integers(0, 5), values)
def test_a_new_key_and_a_new_value_change_nothing_else(
    document: tuple[str, Any], number: int, sibling: int, value: Any
) -> None:
    text, _ = document
    source = Source.of(text, "c.json")
    root = read(text)
    path, mapping = mappings(root)[number % len(mappings(root))]
    leaves = list(scalars(root))
    assume(leaves)
    leaf = leaves[number % len(leaves)]
    after = mapping.keys()[sibling % len(mapping.keys())] if mapping.items else None
    edits = [replace(source, leaf, value)]
    try:
        edits.append(insert(source, mapping, "new", value, after))
    except EditRefusedError:
        assert not mapping.items  # braces around a comment
    result = read(apply(source, edits))
    found: Any = plain(result)
    for step in path:
        found = found[step]
    assert len(edits) == 1 or found.pop("new") == value
    expected = [shown(value if other is leaf else other.value) for other in leaves]
    expected += [shown(value)] * (len(edits) - 1)
    assert sorted(shown(other.value) for other in scalars(result)) == sorted(expected)


def shown(value: Any) -> str:
    """A value as text; a whole number as the float it may have been written as."""
    return repr(float(value) if isinstance(value, int) and not isinstance(value, bool) else value)
