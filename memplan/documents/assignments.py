"""Assignments in programs, and finding the one that is meant."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import PurePath

from memplan.documents.scopes import Place, mentions
from memplan.documents.source import Source
from memplan.documents.tree import ScalarNode
from memplan.domain.edit import Span
from memplan.domain.errors import AmbiguousKeyError, DocumentError, FieldError, Location

PYTHON_SUFFIXES = (".py", ".pyi")
CPP_SUFFIXES = (".cpp", ".cc", ".cxx", ".c", ".cu", ".h", ".hpp", ".hh", ".hxx", ".cuh", ".ipp", ".inl")
_MOST_SHOWN = 10
_MOST_COMPARED = 500  # looking around every one of more than these would take minutes, and is no config


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One name with its value.

    Attributes:
        key: the qualified name in Python (``Config.embedding_dim``), the left side as written in C++.
        statement: the whole statement.
        place: where it stands among comments, blocks and functions.
    """

    key: str
    node: ScalarNode
    statement: Span
    place: Place = field(repr=False, compare=False)

    @property
    def surroundings(self) -> tuple[str, ...]:
        """Comments, strings and names around the assignment, the nearest first."""
        return tuple(text for ring in self.place.rings() for text in ring)

    def distance(self, near: str) -> int | None:
        """The ring in which the surroundings first mention a word; None when they never do."""
        rings = self.place.rings()
        return next(
            (number for number, ring in enumerate(rings) if any(mentions(text, near) for text in ring)), None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The assignments of one file, and where its grammar was broken."""

    source: Source
    assignments: tuple[Assignment, ...]
    errors: tuple[Span, ...]


def read(source: Source) -> Program:
    """All assignments of a Python or C++ file, by the ending of its name.

    Raises:
        DocumentError: the file's name has another ending.
    """
    from memplan.documents import cpp, python

    suffix = PurePath(source.path).suffix.lower()
    if suffix in PYTHON_SUFFIXES:
        return python.read(source)
    if suffix in CPP_SUFFIXES:
        return cpp.read(source)
    raise DocumentError(
        f"{source.path} is neither Python nor C++",
        location=Location(path=source.path, line=1),
        expected=f"a file ending in {', '.join(PYTHON_SUFFIXES + CPP_SUFFIXES)}",
    )


def find(source: Source, key: str, near: str | None = None) -> Assignment:
    """The assignment a key means.

    A key matches the end of a qualified name (``embedding_dim`` matches ``Config.embedding_dim``); a
    name that equals it goes first. ``near`` keeps those whose surroundings mention the word, and of
    these the nearest.

    Raises:
        FieldError: nothing has that key, or nothing with it stands near the word.
        AmbiguousKeyError: several do.
        DocumentError: the file is malformed where the assignment stands, or where it may stand.
    """
    program = read(source)
    wanted = _segments(key)
    found = [item for item in program.assignments if _segments(item.key)[-len(wanted) :] == wanted]
    found = [item for item in found if _segments(item.key) == wanted] or found
    _refuse_broken(program, wanted[-1], found)
    if not found:
        raise _unknown(program, key)
    if near is not None and len(found) <= _MOST_COMPARED:
        found = _nearest(source, key, near, found)
    if len(found) > 1:
        raise _ambiguous(source, key, near, found)
    return found[0]


def _segments(key: str) -> list[str]:
    written = "".join(key.split()).replace("->", ".").replace("::", ".")
    return [part for part in written.split(".") if part] or [key]


def _refuse_broken(program: Program, name: str, found: list[Assignment]) -> None:
    """An error matters where it touches what was found, where it names the key, or when nothing is left."""
    text = program.source.text
    for error in program.errors:
        touched = any(_touches(text, error, item.statement) for item in found)
        if touched or not found or mentions(text[error.start : error.end], name):
            raise DocumentError(
                f"{program.source.path} is not well-formed here, so {name} cannot be found safely",
                location=program.source.location(error),
                hint="check the brackets, quotes and semicolons before this place",
            )


def _touches(text: str, error: Span, statement: Span) -> bool:
    if error.start < statement.end and statement.start < error.end:
        return True
    first, second = sorted((error, statement))
    return first.end <= second.start and not text[first.end : second.start].strip(" \t")


def _unknown(program: Program, key: str) -> FieldError:
    known = list(dict.fromkeys(item.key for item in program.assignments))
    ends = {_segments(name)[-1]: name for name in known}
    close = get_close_matches(key, known, n=3, cutoff=0.5)
    close += [ends[end] for end in get_close_matches(_segments(key)[-1], ends, n=3, cutoff=0.6)]
    names = list(dict.fromkeys(close))[:3]
    return FieldError(
        f"nothing is assigned to {key} in {program.source.path}",
        location=Location(path=program.source.path, line=1),
        hint=f"did you mean {', '.join(names)}?" if names else None,
    )


def _nearest(source: Source, key: str, near: str, found: list[Assignment]) -> list[Assignment]:
    distances = [(distance, item) for item in found if (distance := item.distance(near)) is not None]
    if not distances:
        raise FieldError(
            f"no assignment to {key} stands near {near!r}",
            location=source.location(found[0].statement),
            expected="a word from the comment, strings, block or function around it",
            hint=f"{key} is assigned at {_places(source, found)}",
        )
    least = min(distance for distance, _ in distances)
    return [item for distance, item in distances if distance == least]


def _ambiguous(source: Source, key: str, near: str | None, found: list[Assignment]) -> AmbiguousKeyError:
    where = "" if near is None else f" near {near!r}"
    return AmbiguousKeyError(
        f"{key} is assigned {len(found)} times{where}: {_places(source, found)}",
        location=source.location(found[0].statement),
        hint="name one with near: a word from the comment, block or function around it",
    )


def _places(source: Source, found: list[Assignment]) -> str:
    places = [f"{source.path}:{source.line(item.statement)}" for item in found[:_MOST_SHOWN]]
    more = len(found) - len(places)
    return ", ".join(places) + (f" and {more} more" if more else "")
