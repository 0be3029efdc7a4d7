"""Typed, range-checked reading of one value out of a document: every complaint points at its text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import TypeVar

from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, Node, ScalarNode, SequenceNode
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError, Location

LARGEST_COUNT = 2**40
"""No batch, sequence or dimension is larger; a bigger number is a slip of the keyboard."""

_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*([-+.a-z0-9]*)", re.ASCII)
_Member = TypeVar("_Member", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A node of a document with the dotted key it stands under (``batch.micro``)."""

    source: Source
    key: str
    node: Node

    @property
    def location(self) -> Location:
        """Where the value's text is."""
        return self.source.location(self.node.span)

    @property
    def is_null(self) -> bool:
        """Whether the value is empty or null."""
        return isinstance(self.node, ScalarNode) and self.node.value is None

    def fail(self, message: str, *, expected: str | None = None, hint: str | None = None) -> FieldError:
        """An error at this value; ``message`` follows the key's name, if it has one."""
        text = f"{self.key}: {message}" if self.key else message
        return FieldError(text, location=self.location, expected=expected, hint=hint)

    def entries(self, known: Collection[str] | None = None, *, repeats: bool = False) -> dict[str, Value]:
        """The values of a mapping by key; with ``known``, any other key is an error.

        With ``repeats`` the last of several equal keys counts, as most parsers have it.

        Raises:
            FieldError: this is no mapping, a key is no plain text, repeated, or not in ``known``.
        """
        if not isinstance(self.node, MappingNode):
            raise self.fail(f"must be a mapping, not {self.described()}", expected=_listed(known))
        found: dict[str, Value] = {}
        repeated = () if repeats else self.node.duplicates
        for item in self.node.items:
            name = item.key.value
            place = self.source.location(item.key.span)
            if not isinstance(name, str):
                raise FieldError(
                    f"key {item.key.text!r} is not a name", location=place, expected=_listed(known)
                )
            key = f"{self.key}.{name}" if self.key else name
            if known is not None and name not in known:
                raise unknown_key(key, name, known, place)
            if item.key in repeated:
                raise FieldError(f"{key} is given twice", location=place, hint="keep one of the two")
            found[name] = Value(source=self.source, key=key, node=item.value)
        return found

    def items(self) -> Iterator[Value]:
        """The values of a list, in order.

        Raises:
            FieldError: this is no list.
        """
        if not isinstance(self.node, SequenceNode):
            raise self.fail(f"must be a list, not {self.described()}")
        for index, node in enumerate(self.node.items):
            yield Value(source=self.source, key=f"{self.key}[{index}]", node=node)

    def whole(self, low: int = 1, high: int = LARGEST_COUNT) -> int:
        """A whole number within ``low..high`` (both included); true, 8.0 and "8" are not."""
        found = self.node.value if isinstance(self.node, ScalarNode) else None
        expected = f"a whole number from {low:,} to {high:,}"
        if isinstance(found, bool) or not isinstance(found, int):
            raise self.fail(f"must be a whole number, not {self.described()}", expected=expected)
        if not low <= found <= high:
            side = "small" if found < low else "large"
            raise self.fail(f"{self.described()} is too {side}", expected=expected)
        return found

    def number(self, low: float, high: float) -> float:
        """A number within ``low..high``."""
        found = self.node.value if isinstance(self.node, ScalarNode) else None
        if isinstance(found, bool) or not isinstance(found, int | float) or not low <= found <= high:
            raise self.fail(
                f"must be a number, not {self.described()}", expected=f"a number from {low} to {high}"
            )
        return float(found)

    def flag(self) -> bool:
        """True or false."""
        found = self.node.value if isinstance(self.node, ScalarNode) else None
        if not isinstance(found, bool):
            raise self.fail(f"must be true or false, not {self.described()}")
        return found

    def word(self) -> str:
        """A non-empty piece of text."""
        found = self.node.value if isinstance(self.node, ScalarNode) else None
        if not isinstance(found, str) or not found.strip():
            raise self.fail(f"must be text, not {self.described()}")
        return found

    def choice(self, names: Collection[str]) -> str:
        """One of a fixed list of names."""
        found = self.node.value if isinstance(self.node, ScalarNode) else None
        if isinstance(found, str) and found in names:
            return found
        close = get_close_matches(found, names, n=1) if isinstance(found, str) else []
        raise self.fail(
            f"{self.described()} is not one of its values",
            expected=_listed(names),
            hint=f"did you mean {close[0]}?" if close else None,
        )

    def member(self, kind: type[_Member]) -> _Member:
        """A member of an enumeration, by its value."""
        return kind(self.choice([member.value for member in kind]))

    def dtype(self) -> Dtype:
        """An element type such as ``bf16`` or ``torch.bfloat16``."""
        try:
            return Dtype.parse(self.word())
        except ValueError as error:
            raise self.fail(str(error)) from None

    def amount(self) -> Bytes:
        """An amount of memory with its unit: ``400MB``."""
        found = self.node.value if isinstance(self.node, ScalarNode) else None
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            raise self.fail(f"must be an amount of memory, not {self.described()}", expected="such as 400MB")
        try:
            return Bytes.parse(found if isinstance(found, str) else self.written())
        except ValueError as error:
            raise self.fail(str(error), expected="an amount with its unit, such as 400MB or 1.5GiB") from None

    def version(self) -> str:
        """A version as written: ``2.10`` stays ``2.10`` although YAML reads a number."""
        text = self.written()
        if not isinstance(self.node, ScalarNode) or not _VERSION.fullmatch(text):
            raise self.fail(f"must be a version, not {self.described()}", expected='such as "2.14"')
        return text

    def written(self) -> str:
        """The value's own text without quotes."""
        return self.node.text.strip().strip("'\"") if isinstance(self.node, ScalarNode) else ""

    def described(self) -> str:
        """What stands there, in words short enough for a message."""
        if isinstance(self.node, MappingNode):
            return "a mapping"
        if isinstance(self.node, SequenceNode):
            return "a list"
        if self.node.value is None:
            return "nothing"
        text = " ".join(self.node.text.split())
        return text if len(text) <= 60 else f"{text[:57]}..."


def unknown_key(key: str, name: str, known: Collection[str], location: Location) -> FieldError:
    """The error for a key that means nothing here, with the nearest ones that do."""
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    return FieldError(
        f"{key} is not a key memplan knows here",
        location=location,
        expected=_listed(known),
        hint=f"did you mean {' or '.join(close)}?" if close else None,
    )


def _listed(names: Collection[str] | None) -> str | None:
    return ", ".join(names) if names else None
