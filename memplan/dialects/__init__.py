"""One module per config format: document paths to workload fields, and back.

A new dialect is one module here and one entry in ``DIALECTS``.
"""

from __future__ import annotations

from collections.abc import Sequence

from memplan.dialects import axolotl, hf_config, manifest, native
from memplan.dialects.reading import Dialect, Document, FieldChange, Reading
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import AmbiguousKeyError, FieldError, Location, UnknownNameError


def _listed(*dialects: Dialect) -> tuple[Dialect, ...]:
    return dialects


DIALECTS = _listed(native, manifest, axolotl, hf_config)
"""Every dialect there is; a contract test compares this tuple with the folder."""


def named(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        UnknownNameError: there is none; the nearest are offered.
    """
    for dialect in DIALECTS:
        if name == dialect.NAME:
            return dialect
    known = [dialect.NAME for dialect in DIALECTS]
    raise UnknownNameError.nearest("dialect", name, known, hint=f"one of {', '.join(known)}")


def detect(document: Document) -> Dialect:
    """The dialect whose keys a document shows most specifically.

    Raises:
        FieldError: no dialect recognises it.
        AmbiguousKeyError: two recognise it equally well; both are named.
    """
    scores = {dialect.NAME: dialect.recognises(document) for dialect in DIALECTS}
    best = max(scores.values())
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


def _unrecognised(document: Document) -> FieldError:
    return FieldError(
        f"{document.source.path} is not a config memplan knows",
        location=Location(path=document.source.path, line=1),
        expected="one of: `memplan: 1` (native or manifest), `base_model:` (axolotl), "
        '"model_type" (Hugging Face config.json)',
        hint="name the dialect with --dialect if the file is one of these",
    )
