"""Everything that can go wrong because of what a user gave, as one tree.

::

    MemplanError                 exit code 2, nothing written
    ├── InputError               text that cannot be used
    │   ├── DocumentError        a file is not well-formed in its own language
    │   ├── FieldError           a key is unknown, or its value has the wrong type or range
    │   │   ├── UnrecognisedError    a file is in no format that memplan knows
    │   │   └── ForeignFormatError   a file is in a format that memplan knows and does not plan
    │   ├── UnknownNameError     no GPU, model or profile has that name
    │   └── AmbiguousKeyError    a key names several places and nothing picks one
    ├── FileAccessError          a file is missing, unreadable, not text or not writable
    ├── HubError                 the hub has not got a model, keeps it closed, or does not answer
    ├── ProfileError             a file under profiles/ breaks its schema
    ├── EditRefusedError         a value cannot be rewritten without touching something else
    │   └── ImpossibleError      the framework does not run with the value, whoever writes it
    ├── StaleError               a file changed since the plan was made
    └── RunError                 exit code 1: a run that was to be measured did not go through
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place in a text file: 1-based line and column (in characters), and the line itself."""

    path: str
    line: int
    column: int = 1
    text: str = ""
    width: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"

    def excerpt(self) -> str:
        """The line with a caret line under the place; empty when the line is not known."""
        if not self.text:
            return ""
        # Control characters would move the caret, or worse, drive the reader's terminal.
        line = "".join(sign if sign.isprintable() else " " for sign in self.text[: self.column + 160])
        width = max(1, min(self.width, len(line) - self.column + 1))
        return f"    {line}\n    {' ' * (self.column - 1)}{'^' * width}"


class MemplanError(Exception):
    """The root: a message for people, and where possible a place, an expectation and a way out."""

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        location: Location | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location else ""
        lines = [f"{where}{self.message}"]
        if self.location and (excerpt := self.location.excerpt()):
            lines.append(excerpt)
        if self.expected:
            lines.append(f"expected: {self.expected}")
        if self.hint:
            lines.append(f"try: {self.hint}")
        return "\n".join(lines)


class InputError(MemplanError):
    """What the user gave cannot be used."""


class DocumentError(InputError):
    """A file is not well-formed in its own language."""


class FieldError(InputError):
    """A key is unknown, or its value has the wrong type or range."""


class UnrecognisedError(FieldError):
    """A file is in no format that memplan knows."""


class ForeignFormatError(FieldError):
    """A file is in a format that memplan knows by its marks and does not plan."""


class UnknownNameError(InputError):
    """No GPU, model or profile has that name."""

    @classmethod
    def nearest(
        cls,
        kind: str,
        name: str,
        known: Iterable[str],
        *,
        location: Location | None = None,
        hint: str | None = None,
    ) -> UnknownNameError:
        """An error that offers the names most like the one given."""
        spelt = {item.lower(): item for item in known}
        close = [spelt[item] for item in get_close_matches(name.lower(), spelt, n=3, cutoff=0.5)]
        offer = f"did you mean {', '.join(close)}?" if close else None
        tries = "; ".join(part for part in (offer, hint) if part) or None
        return cls(f"no {kind} is called {name!r}", location=location, hint=tries)


class AmbiguousKeyError(InputError):
    """A key names several places and nothing in the manifest picks one."""


class FileAccessError(MemplanError):
    """A file is missing, unreadable, not text, or cannot be written."""


class HubError(MemplanError):
    """The hub has not got a model, keeps it closed, or does not answer."""


class ProfileError(MemplanError):
    """A file under ``profiles/`` breaks its schema."""


class EditRefusedError(MemplanError):
    """A value cannot be rewritten without touching something else."""


class ImpossibleError(EditRefusedError):
    """The framework does not run with the value, or not as planned, whoever writes it."""


class StaleError(MemplanError):
    """A file changed between the making of a plan and its application."""


class RunError(MemplanError):
    """A run that was to be measured did not go through: out of memory, killed, too slow, or failed."""

    exit_code = 1
