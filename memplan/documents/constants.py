"""Arithmetic of constants in Python: ``5 * 8`` and ``1e-3 / 2`` have values without anything being run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from memplan.documents.literals import read_literal
from memplan.documents.syntax import Syntax
from memplan.documents.tree import LARGEST_INTEGER, Language, Value

if TYPE_CHECKING:
    from tree_sitter import Node

Number = int | float

_DEEPEST = 20
_LARGEST_EXPONENT = 64
_OPERATIONS: dict[str, Callable[[Number, Number], Number]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "//": lambda left, right: left // right,
    "%": lambda left, right: left % right,
    "**": lambda left, right: _power(left, right),
}
_SIGNS: dict[str, Callable[[Number], Number]] = {"-": lambda value: -value, "+": lambda value: value}


def constant(syntax: Syntax, node: Node, known: Mapping[str, Value]) -> tuple[Value, frozenset[str]]:
    """The value of an expression of constants, and the names it was looked up under.

    Args:
        known: values of names assigned before.

    Raises:
        ValueError: the expression holds anything else, or its value is no quantity.
    """
    if node.type == "identifier" and syntax.text(node) in known:
        name = syntax.text(node)
        return known[name], frozenset((name,))
    used: set[str] = set()
    value = _number(syntax, node, known, used, 0)
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ValueError("it is beyond 10**30")
    return value, frozenset(used)


def _number(syntax: Syntax, node: Node, known: Mapping[str, Value], used: set[str], depth: int) -> Number:
    if depth > _DEEPEST:
        raise ValueError("it is nested too deep")
    parts = node.named_children
    if node.type == "parenthesized_expression" and len(parts) == 1:
        return _number(syntax, parts[0], known, used, depth + 1)
    if node.type in ("unary_operator", "binary_operator"):
        values = [_number(syntax, part, known, used, depth + 1) for part in parts if part.type != "comment"]
        return _computed(syntax, node, values)
    text = syntax.text(node)
    if node.type == "identifier" and text in known:
        used.add(text)
        value = known[text]
    else:
        value = read_literal(text, Language.PYTHON)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("it is no number")
    return value


def _computed(syntax: Syntax, node: Node, values: list[Number]) -> Number:
    operator = node.child_by_field_name("operator")
    sign = "" if operator is None else syntax.text(operator)
    try:
        if len(values) == 1 and sign in _SIGNS:
            return _SIGNS[sign](values[0])
        if len(values) == 2 and sign in _OPERATIONS:
            value = _OPERATIONS[sign](values[0], values[1])
            if abs(value) <= LARGEST_INTEGER:
                return value
    except (ArithmeticError, TypeError):
        pass
    raise ValueError("it is an expression, which memplan does not evaluate")


def _power(left: Number, right: Number) -> Number:
    if abs(right) > _LARGEST_EXPONENT or abs(left) > LARGEST_INTEGER:
        raise ArithmeticError
    value = left**right
    if isinstance(value, int | float):
        return value
    raise ArithmeticError  # a root of a negative number
