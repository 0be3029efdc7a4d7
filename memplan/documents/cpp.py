"""Assignments in C++ and CUDA files: members, constants, macros and default member initialisers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memplan.documents.assignments import Assignment, Program
from memplan.documents.literals import scalar
from memplan.documents.scopes import Layout, Mention, Place, Scope, note
from memplan.documents.source import Source
from memplan.documents.syntax import Syntax
from memplan.documents.tree import Language, ScalarNode
from memplan.domain.edit import Span

if TYPE_CHECKING:
    from tree_sitter import Node

_BLOCKS = frozenset(("compound_statement", "field_declaration_list", "declaration_list", "case_statement"))
_TYPES = frozenset(("class_specifier", "struct_specifier", "union_specifier"))
_DECLARATORS = frozenset(("identifier", "field_identifier", "qualified_identifier"))
_COMMENT = re.compile(r"//.*|/\*.*", re.DOTALL)
_DEAD_CODE = frozenset(("0", "false"))


def read(source: Source) -> Program:
    """Every assignment with its left side, and the places the grammar cannot read."""
    syntax = Syntax(source, Language.CPP)
    found = _Reading(syntax).assignments()
    return Program(source=source, assignments=tuple(found), errors=syntax.errors())


def assignments(source: Source) -> tuple[Assignment, ...]:
    """The assignments, initialised declarations and ``#define`` constants, in order.

    Left sides are as written (``cfg->n``); what a class or namespace declares is qualified by its
    name (``Config.n``). A right-hand side that is not a plain literal is fixed, and its value is its
    text. Code under ``#if 0`` is left out.
    """
    return read(source).assignments


@dataclass(frozen=True, slots=True)
class _Visit:
    node: Node
    parent: Node | None  # carried along: asking a node for its parent searches from the root
    scope: Scope
    names: tuple[str, ...]


class _Reading:
    """One walk over a file; an explicit stack, since untrusted text may nest without end."""

    def __init__(self, syntax: Syntax) -> None:
        self._syntax = syntax
        self._layout = Layout(syntax.lines)
        self._found: list[Assignment] = []

    def assignments(self) -> list[Assignment]:
        top = Scope(parent=None, header=Span(0, 0), top=0)
        waiting = [_Visit(self._syntax.root, None, top, ())]
        while waiting:
            visit = waiting.pop()
            if note(self._syntax, self._layout, visit.scope, visit.node):
                continue
            self._read(visit)
            waiting.extend(reversed(self._below(visit)))
        return self._found

    def _below(self, visit: _Visit) -> list[_Visit]:
        node, scope, names = visit.node, visit.scope, visit.names
        if node.type in _BLOCKS:
            scope = self._scope(node, visit.parent, scope)
        if node.type in _TYPES or node.type == "namespace_definition":
            name = node.child_by_field_name("name")
            names = names if name is None else (*names, *self._dotted(name).split("."))
        if node.type in ("function_definition", "lambda_expression"):
            names = ()
        return [_Visit(child, node, scope, names) for child in self._live(node)]

    def _scope(self, node: Node, above: Node | None, parent: Scope) -> Scope:
        owner = node if node.type == "case_statement" or above is None else above
        start = self._syntax.span(owner).start
        end = self._syntax.span(node).start
        if owner is node:
            value = node.child_by_field_name("value")
            end = start if value is None else self._syntax.span(value).end
        scope = Scope(parent=parent, header=Span(start, max(start, end)), top=owner.start_point.row)
        if owner is node:
            # A case's label is inside its own node, so it is not among the parent's mentions.
            text = self._syntax.source.text[scope.header.start : scope.header.end]
            scope.mentions.append(Mention(text, scope.header, scope.top, scope.top))
        return scope

    def _live(self, node: Node) -> list[Node]:
        """The children, without those a constant ``#if`` removes."""
        condition = (
            node.child_by_field_name("condition") if node.type in ("preproc_if", "preproc_elif") else None
        )
        if condition is None:
            return node.children
        word = self._syntax.text(condition)
        alternative = node.child_by_field_name("alternative")
        if word in _DEAD_CODE:
            return [] if alternative is None else [alternative]
        if word in ("1", "true"):
            return [child for child in node.children if child != alternative]
        return node.children

    def _read(self, visit: _Visit) -> None:
        node = visit.node
        if node.type == "assignment_expression":
            self._assignment(visit)
        elif node.type == "init_declarator":
            name, value = node.child_by_field_name("declarator"), node.child_by_field_name("value")
            self._declared(visit, name, value, visit.parent or node)
        elif node.type == "field_declaration":
            for name, value in _members(node):
                self._declared(visit, name, value, node)
        elif node.type == "preproc_def":
            self._macro(visit)

    def _assignment(self, visit: _Visit) -> None:
        node = visit.node
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        operator = node.child_by_field_name("operator")
        if left is None or right is None or operator is None or operator.type != "=":
            return
        parent = visit.parent
        chained = right.type == node.type or (parent is not None and parent.type == node.type)
        statement = parent if parent is not None and parent.type == "expression_statement" else node
        key = "".join(self._syntax.text(left).split())
        self._add(visit, key, right, statement, "it is assigned to several names" if chained else None)

    def _declared(self, visit: _Visit, name: Node | None, value: Node | None, statement: Node) -> None:
        while name is not None and name.type in ("pointer_declarator", "reference_declarator"):
            inner = name.named_children  # a reference's declarator is a child without a field name
            name = inner[-1] if inner else None
        if name is None or value is None or name.type not in _DECLARATORS:
            return
        if value.type == "initializer_list" and value.named_child_count == 1:
            value = value.named_children[0]
        key = ".".join((*visit.names, self._dotted(name)))
        self._add(visit, key, value, statement, None)

    def _macro(self, visit: _Visit) -> None:
        name, value = visit.node.child_by_field_name("name"), visit.node.child_by_field_name("value")
        if name is None or value is None:
            return
        span = self._syntax.span(value)
        text = _COMMENT.sub("", self._syntax.text(value)).rstrip()
        node = scalar(text, Span(span.start, span.start + len(text)), Language.CPP, None)
        self._append(visit, self._syntax.text(name), node, visit.node)

    def _dotted(self, node: Node) -> str:
        return "".join(self._syntax.text(node).split()).replace("::", ".")

    def _add(self, visit: _Visit, key: str, value: Node, statement: Node, fixed: str | None) -> None:
        node = scalar(self._syntax.text(value), self._syntax.span(value), Language.CPP, fixed)
        self._append(visit, key, node, statement)

    def _append(self, visit: _Visit, key: str, node: ScalarNode, statement: Node) -> None:
        rows = statement.start_point.row, statement.end_point.row
        place = Place(visit.scope, self._layout, key, *rows)
        span = self._syntax.span(statement)
        self._found.append(Assignment(key=key, node=node, statement=span, place=place))


def _members(node: Node) -> list[tuple[Node, Node]]:
    """The members that a declaration gives defaults: each declarator with the value that follows it."""
    found: list[tuple[Node, Node]] = []
    name: Node | None = None
    for number, child in enumerate(node.children):
        kind = node.field_name_for_child(number)
        if kind == "declarator":
            name = child
        elif kind == "default_value" and name is not None:
            found.append((name, child))
    return found
