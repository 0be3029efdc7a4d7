"""Every value of a config replaced by nonsense: read all the same, or refused at a place, with no crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.documents.tree import Language, MappingNode, Node, ScalarNode, scalars
from memplan.domain.errors import MemplanError
from memplan.read import read

from .cases import Case, all_cases

CASES = all_cases()
NONSENSE = {
    Language.YAML: (
        "",
        "null",
        "x",
        "-1",
        "0",
        "1.5",
        "1e30",
        "999999999999",
        "[1, x]",
        "{a: {b: 1}}",
        "true",
        "''",
    ),
    Language.JSON: (
        "null",
        '"x"',
        "-1",
        "0",
        "1.5",
        "1e30",
        "999999999999",
        '[1, "x"]',
        '{"a": {"b": 1}}',
        "true",
        '""',
    ),
    Language.TOML: (
        '"x"',
        "-1",
        "0",
        "1.5",
        "1e30",
        "999999999999",
        '[1, "x"]',
        "{a = {b = 1}}",
        "true",
        '""',
    ),
    Language.PYTHON: ("None", "'x'", "-1", "0", "1.5", "1e30", "999999999999", "[1]", "f(2)", "True", "''"),
}

TURNS = 3
"""Values take turns: each gets a third of the nonsense."""


def values(node: Node) -> list[ScalarNode]:
    return [found for found in scalars(node) if found.text]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_nonsense_is_refused_at_a_place_or_does_not_matter(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.file
    path.write_text(case.text)
    root = read(path).document.root
    assert isinstance(root, MappingNode)
    for number, node in enumerate(values(root)):
        for nonsense in NONSENSE[root.language][number % TURNS :: TURNS]:
            path.write_text(case.text[: node.span.start] + nonsense + case.text[node.span.end :])
            try:
                read(path)
            except MemplanError as error:
                assert error.location is not None, (node.text, nonsense)
