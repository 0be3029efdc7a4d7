"""Assignments in Python files: module variables, class attributes and dataclass fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memplan.documents.assignments import Assignment, Program
from memplan.documents.literals import scalar
from memplan.documents.scopes import Layout, Place, Scope, note
from memplan.documents.source import Source
from memplan.documents.syntax import Syntax
from memplan.documents.tree import Language
from memplan.domain.edit import Span

if TYPE_CHECKING:
    from tree_sitter import Node

_TARGETS = frozenset(("identifier", "attribute", "subscript"))


def read(source: Source) -> Program:
    """Every assignment with its qualified name, and the places the grammar cannot read."""
    syntax = Syntax(source, Language.PYTHON)
    found = _Reading(syntax).assignments()
    return Program(source=source, assignments=tuple(found), errors=syntax.errors())


def assignments(source: Source) -> tuple[Assignment, ...]:
    """The assignments at module and class level, in order; what functions assign is left out.

    A right-hand side that is not a plain literal is fixed, and its value is its text.
    """
    return read(source).assignments


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

    def assignments(self) -> list[Assignment]:
        top = Scope(parent=None, header=Span(0, 0), top=0)
        waiting = [_Visit(self._syntax.root, None, top, (), False)]
        while waiting:
            visit = waiting.pop()
            if note(self._syntax, self._layout, visit.scope, visit.node):
                continue
            if visit.node.type == "assignment" and not visit.in_function:
                self._assignment(visit)
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
        key = ".".join((*visit.classes, "".join(self._syntax.text(left).split())))
        self._found.append(
            Assignment(
                key=key,
                node=scalar(
                    self._syntax.text(right),
                    self._syntax.span(right),
                    Language.PYTHON,
                    "it is assigned to several names" if chained else None,
                ),
                statement=self._syntax.span(node),
                place=Place(visit.scope, self._layout, key, node.start_point.row, node.end_point.row),
            )
        )
