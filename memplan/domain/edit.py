"""Edits: replacements of character ranges in a text, and the changes that cannot be made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of characters ``[start, end)`` in a file's decoded text."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"span {self.start}..{self.end} runs backwards")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One replacement (or, with an empty span, one insertion) in one file.

    ``before`` and ``after`` are the value's own text, for the report; ``replacement`` is what
    is spliced over ``span`` (an insertion's replacement holds a whole new line).
    """

    path: str
    span: Span
    replacement: str
    line: int
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A change the file's language cannot take safely: what to do by hand, and why.

    ``outside`` says that it belongs to no file: it is set in the environment that a run is started in.
    ``impossible`` says that nobody can make it: the framework does not run so.
    """

    field: str
    message: str
    path: str | None = None
    line: int | None = None
    outside: bool = False
    impossible: bool = False
