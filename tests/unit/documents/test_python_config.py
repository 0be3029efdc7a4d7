"""Configs that are Python files, as nanoGPT's are."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.documents import python
from memplan.documents.edits import apply, insert, replace
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, ScalarNode, plain
from memplan.domain.errors import DocumentError, EditRefusedError

TEXT = """# config
import os
batch_size = 12
gradient_accumulation_steps = 5 * 8  # to simulate more
learning_rate = 6e-4
min_lr = learning_rate / 10
max_iters = 600_000
lr_decay_iters = max_iters
weight_decay: float = 1e-1
compile = True
name = 'gpt2' + str(batch_size)
if compile:
    max_iters = 1
    other = 2
max_iters *= 2
"""


def read(text: str = TEXT) -> MappingNode:
    return python.parse(Source.of(text, "train.py"))


def scalar(key: str, text: str = TEXT) -> ScalarNode:
    node = read(text).get(key)
    assert isinstance(node, ScalarNode)
    return node


def test_variables_of_the_module_are_keys() -> None:
    assert plain(read()) == {
        "batch_size": 12,
        "gradient_accumulation_steps": 40,
        "learning_rate": 6e-4,
        "min_lr": 6e-4 / 10,
        "max_iters": 600000,
        "lr_decay_iters": 600000,
        "weight_decay": 0.1,
        "compile": True,
        "name": "'gpt2' + str(batch_size)",
    }


def test_what_is_computed_or_changed_elsewhere_is_not_edited() -> None:
    fixed = {item.key.value: item.value.fixed for item in read().items if item.value.fixed}
    assert fixed.keys() == {"min_lr", "max_iters", "lr_decay_iters", "name"}
    assert fixed["min_lr"] == "it is computed from learning_rate"
    assert fixed["max_iters"] == "it is changed in line 15 too"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5 * 8", 40),
        ("-(2 + 3) ** 2", -25),
        ("+1", 1),
        ("(1)", 1),
        ("7 // 2 % 2", 1),
        ("1e-1 / 2", 0.05),
        ("2 ** 10 - 1", 1023),
        ("2 ** -1", 0.5),
        ("(5 *\n 8)", 40),
        ("(5 * # c\n 8)", 40),
    ],
)
def test_arithmetic_of_constants_has_its_value_and_can_be_replaced(text: str, value: Any) -> None:
    node = scalar("x", f"x = {text}\n")
    assert (node.value, node.fixed, node.text) == (value, None, text)
    source = Source.of(f"x = {text}  # c\n", "train.py")
    assert apply(source, [replace(source, node, 7)]) == "x = {}  # c\n".format(
        "7.0" if isinstance(value, float) else "7"
    )


@pytest.mark.parametrize(
    "text",
    [
        *("2 ** 1000", "10 ** 40", "1 / 0", "1 % 0", "0 ** -1", "1e308 * 10", "(-8) ** 0.5", "1 << 3"),
        *("True + 1", "'a' * 3", "y * 2", "not 1", "f(2) * 3", "-x", "1 if y else 2", "~1"),
        "(" * 40 + "1" + ")" * 40,
        "+".join("1" * 100),
    ],
)
def test_any_other_expression_keeps_its_text(text: str) -> None:
    node = scalar("x", f"x = {text}\n")
    assert node.fixed is not None
    assert node.value == text


def test_a_class_does_not_see_the_modules_names_as_its_own() -> None:
    text = "width = 4\nclass Config:\n    width = 8\n    area = width * 2\n"
    (_, _, area) = python.assignments(Source.of(text, "train.py"))
    assert area.node.fixed is not None
    assert area.node.value == "width * 2"


def test_a_variable_that_changed_is_not_looked_up() -> None:
    for change in ("a += 1", "if b:\n    a = 2", "a = f()"):
        assert scalar("c", f"a = 1\n{change}\nc = a * 2\n").value == "a * 2"


@pytest.mark.parametrize(
    ("before", "after", "value", "result"),
    [
        ("a = 1  # c\nb = 2\n", "a", 5, "a = 1  # c\nx = 5\nb = 2\n"),
        ("a=1\r\nb=2", None, 0.5, "a=1\r\nb=2\r\nx=0.5"),
        ("a: int = 1\n", None, "s", 'a: int = 1\nx = "s"\n'),
        (
            "a = (1,\n     2)\nif a:\n    b = 1\n",
            None,
            None,
            "a = (1,\n     2)\nx = None\nif a:\n    b = 1\n",
        ),
    ],
)
def test_a_new_variable_goes_below_its_sibling(
    before: str, after: str | None, value: Any, result: str
) -> None:
    source = Source.of(before, "train.py")
    assert apply(source, [insert(source, read(before), "x", value, after)]) == result


@pytest.mark.parametrize(
    ("text", "key", "after", "value"),
    [
        ("a = 1; b = 2\n", "x", "b", 5),
        ("a = 1; b = '''\n'''\n", "x", "a", 5),
        ("a = 1\n", "not a name", None, 5),
        ("a = 1\n", "class", None, 5),
        ("a = 1\n", "x", None, [1]),
        ("", "x", None, 5),
    ],
)
def test_where_no_line_is_safe_the_insertion_is_refused(
    text: str, key: str, after: str | None, value: Any
) -> None:
    source = Source.of(text, "train.py")
    with pytest.raises(EditRefusedError):
        insert(source, read(text), key, value, after)


def test_a_file_that_is_not_python_is_refused_where_it_breaks() -> None:
    with pytest.raises(DocumentError, match="not valid Python") as caught:
        read("a = 1\nb = (\n")
    assert caught.value.location is not None
    assert caught.value.location.line in (2, 3)
