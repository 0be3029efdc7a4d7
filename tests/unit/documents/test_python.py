"""Assignments in Python files."""

from __future__ import annotations

import pytest

from memplan.documents.python import assignments
from memplan.documents.source import Source

PROGRAM = '''\
"""Config = 1 in a docstring is not an assignment."""
CONST = 4
rate: float = 2e-4  # learning
NEGATIVE = -1
BIG = 1_000_000
MASK = 0xFF
name = 'run'
flag: bool = True
nothing = None
declared: int

@dataclass
class Config(Base):
    # sizes
    embedding_dim: int = 2048  # Quadrupled
    hidden = CONST * 2
    tags: list = field(default_factory=list)

    class Inner:
        depth = 3

    def method(self, size=7):
        local = 5
        self.state = 6

if CONST:
    inside = 8
    config.batch = 16
first = second = 9
left, right = 1, 2
CONST += 1
items["k"] = 3
'''


def test_fields_class_and_module_variables_are_found_with_qualified_names() -> None:
    found = {item.key: item.node for item in assignments(Source.of(PROGRAM, "t.py"))}
    editable = {key: node.value for key, node in found.items() if node.fixed is None}
    assert editable == {
        "CONST": 4,
        "rate": 2e-4,
        "NEGATIVE": -1,
        "BIG": 1_000_000,
        "MASK": 255,
        "name": "run",
        "flag": True,
        "nothing": None,
        "Config.embedding_dim": 2048,
        "Config.Inner.depth": 3,
        "inside": 8,
        "config.batch": 16,
        'items["k"]': 3,
    }
    fixed = {key: node.fixed for key, node in found.items() if node.fixed is not None}
    assert set(fixed) == {"Config.hidden", "Config.tags", "first", "second"}
    assert "expression" in (fixed["Config.hidden"] or "")
    assert found["Config.hidden"].value == "CONST * 2"


@pytest.mark.parametrize("text", [PROGRAM, "\ufeff" + PROGRAM, PROGRAM.replace("\n", "\r\n")])
@pytest.mark.parametrize("wide", ["", "# é 😀 ünïcode\n"])
def test_spans_are_in_characters(text: str, wide: str) -> None:
    text = text[:1] + wide + text[1:] if text.startswith("\ufeff") else wide + text
    source = Source.of(text, "t.py")
    for item in assignments(source):
        span = item.node.span
        assert source.text[span.start : span.end].replace("\r", "") == item.node.text.replace("\r", "")
    assert any(item.node.text == "2048" for item in assignments(source))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 5 * y", "expression"),
        ("x = 2 ** 1000", "expression"),
        ("x = 1 / 0", "expression"),
        ("x = not 1", "expression"),
        ("x = f'{y}'", "expression"),
        ("x = r'a'", "expression"),
        ("x = b'a'", "expression"),
        ("x = 1j", "expression"),
        ("x = 'a' 'b'", "string of one line"),
        ("x = '''a'''", "string of one line"),
        (r"x = '\N{BULLET}'", "escape"),
        ("x = 1e400", "floating point"),
        (f"x = {10**31}", "10**30"),
        (f"x = {'9' * 5000}", "expression"),
        ("x = [1, 2]", "expression"),
        ("x = lambda: 3", "expression"),
    ],
)
def test_what_is_no_plain_literal_is_fixed_with_a_reason(text: str, reason: str) -> None:
    (item,) = assignments(Source.of(text, "t.py"))
    assert reason in (item.node.fixed or "")
    assert isinstance(item.node.value, str)


def test_escapes_are_read() -> None:
    (item,) = assignments(Source.of(r"""x = 'it\'s\t\"\\n'""", "t.py"))
    assert item.node.value == "it's\t\"\\n"
