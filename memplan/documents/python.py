"""Assignments in Python files: module variables, class attributes and dataclass fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memplan.documents.assignments import Assignment, Program
from memplan.documents.constants import constant
from memplan.documents.literals import scalar
from memplan.documents.scopes import Layout, Place, Scope, note
from memplan.documents.source import Source
from memplan.documents.syntax import Syntax
from memplan.documents.tree import Item, Language, MappingNode, ScalarNode, Value, fix, fix_duplicates
from memplan.domain.edit import Span
from memplan.domain.errors import DocumentError

if TYPE_CHECKING:
    from tree_sitter import Node

_COMPUTED = frozenset(("binary_operator", "unary_operator", "parenthesized_expression", "identifier"))
_TARGETS = frozenset(("identifier", "attribute", "subscript"))


def read(source: Source) -> Program:
    """Every assignment with its qualified name, and the places the grammar cannot read."""
    syntax = Syntax(source, Language.PYTHON)
    found = _Reading(syntax).assignments()
    return Program(source=source, assignments=tuple(found), errors=syntax.errors())


def assignments(source: Source) -> tuple[Assignment, ...]:
    """The assignments at module and class level, in order; what functions assign is left out.

    The value of a right-hand side that is neither a literal nor arithmetic of constants is its text; it is
    fixed, and so is what is computed from other variables.
    """
    return read(source).assignments


def parse(source: Source) -> MappingNode:
    """A config that is a Python file: its module's variables, in order, as keys with values.

    What stands in a branch, a loop or a function is no key; a variable that such a place or an operator
    like ``*=`` changes as well is fixed.

    Raises:
        DocumentError: the file is not well-formed Python.
    """
    syntax = Syntax(source, Language.PYTHON)
    if errors := syntax.errors():
        raise DocumentError("not valid Python", location=source.location(errors[0]))
    reading = _Reading(syntax)
    reading.assignments()
    items = [
        Item(key=key, value=fix(node, f"it is changed in line {source.line(where)} too") if where else node)
        for key, node in reading.variables
        for where in [reading.changed.get(str(key.value))]
    ]
    end = items[-1].value.span.end if items else 0
    return MappingNode(items=fix_duplicates(tuple(items)), span=Span(0, end), language=Language.PYTHON)


@dataclass(frozen=True, slots=True)
class _Visit:
    node: Node
    parent: Node | None  # carried along: asking a node for its parent searches from the root
    scope: Scope
    classes: tuple[str, ...]
    in_function: bool


class _Reading:
    """One walk over a file; an explicit stack, since untrusted text may nest without end."""

    def __init__(self, syntax: Syntax) -> None:
        self._syntax = syntax
        self._layout = Layout(syntax.lines)
        self._found: list[Assignment] = []
        self._known: dict[str, Value] = {}
        self.variables: list[tuple[ScalarNode, ScalarNode]] = []
        self.changed: dict[str, Span] = {}

    def assignments(self) -> list[Assignment]:
        top = Scope(parent=None, header=Span(0, 0), top=0)
        waiting = [_Visit(self._syntax.root, None, top, (), False)]
        while waiting:
            visit = waiting.pop()
            if note(self._syntax, self._layout, visit.scope, visit.node):
                continue
            if visit.node.type == "assignment" and not visit.in_function:
                self._assignment(visit)
            elif visit.node.type == "augmented_assignment" and not visit.in_function:
                self._change(visit.node)
            waiting.extend(reversed(self._below(visit)))
        return self._found

    def _below(self, visit: _Visit) -> list[_Visit]:
        node, scope, classes, in_function = visit.node, visit.scope, visit.classes, visit.in_function
        if node.type == "block" and visit.parent is not None:
            header = Span(self._syntax.span(visit.parent).start, self._syntax.span(node).start)
            scope = Scope(parent=scope, header=header, top=visit.parent.start_point.row)
        if node.type == "class_definition" and (name := node.child_by_field_name("name")) is not None:
            classes = (*classes, self._syntax.text(name))
        in_function = in_function or node.type in ("function_definition", "lambda")
        return [_Visit(child, node, scope, classes, in_function) for child in node.children]

    def _assignment(self, visit: _Visit) -> None:
        node = visit.node
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        if left is None or right is None or left.type not in _TARGETS:
            return
        chained = right.type == "assignment" or (
            visit.parent is not None and visit.parent.type == "assignment"
        )
        fixed = "it is assigned to several names" if chained else None
        value = self._value(right, fixed, {} if visit.classes else self._known)
        key = ".".join((*visit.classes, "".join(self._syntax.text(left).split())))
        if left.type == "identifier" and not visit.classes:
            self._variable(visit, left, value)
        place = Place(visit.scope, self._layout, key, node.start_point.row, node.end_point.row)
        statement = self._syntax.span(node)
        self._found.append(Assignment(key=key, node=value, statement=statement, place=place))

    def _value(self, right: Node, fixed: str | None, known: dict[str, Value]) -> ScalarNode:
        """A literal, an expression of constants with its value, or any other with its text."""
        node = scalar(self._syntax.text(right), self._syntax.span(right), Language.PYTHON, fixed)
        if right.type not in _COMPUTED:
            return node
        try:
            value, names = constant(self._syntax, right, known)
        except ValueError:
            return node
        if names:
            fixed = fixed or f"it is computed from {', '.join(sorted(names))}"
        return ScalarNode(value=value, text=node.text, span=node.span, language=Language.PYTHON, fixed=fixed)

    def _variable(self, visit: _Visit, left: Node, value: ScalarNode) -> None:
        """A name of the module: its value for what follows, or that it is no longer known."""
        if visit.scope.parent is not None:
            self._change(visit.node)
            return
        text, span = self._syntax.text(left), self._syntax.span(left)
        key = ScalarNode(value=text, text=text, span=span, language=Language.PYTHON)
        self.variables.append((key, value))
        self._known.pop(text, None)
        if value.fixed is None or value.fixed.startswith("it is computed"):
            self._known[text] = value.value

    def _change(self, node: Node) -> None:
        left = node.child_by_field_name("left")
        if left is not None:
            self._known.pop(self._syntax.text(left), None)
            self.changed[self._syntax.text(left)] = self._syntax.span(node)
