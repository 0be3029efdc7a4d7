"""One module per config format: document paths to workload fields, and back.

A new dialect is one module here and one entry in ``DIALECTS``. A module is imported when a document has
one of its marks, or when it is asked for by name: most runs need one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import cast

from memplan.dialects.reading import Dialect, Document, FieldChange, Reading
from memplan.documents.tree import MappingNode
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import AmbiguousKeyError, FieldError, Location, UnknownNameError

DIALECTS: dict[str, tuple[str, ...]] = {
    "native": ("memplan",),
    "manifest": ("memplan", "memplan.yaml", "memplan.yml"),
    "axolotl": ("base_model",),
    "hf_config": ("model_type", "architectures"),
}
"""Every dialect there is, with its marks: top-level keys or a file name, one of which its documents have."""


def load(name: str) -> Dialect:
    """The module of a dialect."""
    return cast(Dialect, import_module(f"memplan.dialects.{name}"))


def named(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        UnknownNameError: there is none; the nearest are offered.
    """
    if name in DIALECTS:
        return load(name)
    raise UnknownNameError.nearest("dialect", name, DIALECTS, hint=f"one of {', '.join(DIALECTS)}")


def detect(document: Document) -> Dialect:
    """The dialect whose keys a document shows most specifically.

    Raises:
        FieldError: no dialect recognises it.
        AmbiguousKeyError: two recognise it equally well; both are named.
    """
    scores = {name: load(name).recognises(document) for name in _marked(document)}
    best = max(scores.values(), default=0)
    if best == 0:
        raise _unrecognised(document)
    winners = [name for name, score in scores.items() if score == best]
    if len(winners) > 1:
        raise AmbiguousKeyError(
            f"{document.source.path} could be {' or '.join(winners)}",
            hint=" or ".join(f"--dialect {name}" for name in winners),
        )
    return named(winners[0])


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """How to write changes into the files a reading was made from.

    Each change is ``(field, before, after)``; a change that cannot be written, or whose value was given
    on the command line, comes back as advice with the reason.
    """
    given = {override.partition("=")[0].strip() for override in reading.overrides}
    writable = [change for change in changes if change[0] not in given]
    written, advised = named(reading.dialect).edits(reading, writable)
    shadowed = tuple(
        Advice(field=name, message=f"set {name} to {after}: its value came from --set, not from the file")
        for name, _, after in changes
        if name in given
    )
    return written, (*advised, *shadowed)


def _marked(document: Document) -> Iterator[str]:
    root = document.root
    shown = {document.path.name, *(root.keys() if isinstance(root, MappingNode) else ())}
    return (name for name, marks in DIALECTS.items() if shown.intersection(marks))


def _unrecognised(document: Document) -> FieldError:
    return FieldError(
        f"{document.source.path} is not a config memplan knows",
        location=Location(path=document.source.path, line=1),
        expected="one of: `memplan: 1` (native or manifest), `base_model:` (axolotl), "
        '"model_type" (Hugging Face config.json)',
        hint="name the dialect with --dialect if the file is one of these",
    )
