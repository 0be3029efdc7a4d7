"""What memplan makes of every real config: read as which dialect, or refused and why."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from memplan.dialects import detect
from memplan.dialects.reading import Intake, Reading
from memplan.domain.errors import FileAccessError, Location, MemplanError, UnknownNameError
from memplan.read import Known, _document, read

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("MEMPLAN_SHARED") or ROOT.parent / "shared")
CORPUS = SHARED / "corpus"

SLOW = 0.1
"""Seconds of CPU that reading one file may take."""

MODEL = "meta-llama/Llama-3.2-1B"
"""Stands in where a file names no model."""

_ATTEMPTS = 4
_NUMBER = re.compile(r"[0-9][0-9,._]*")
_QUOTED = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"")
_MODEL = "the model is neither known offline nor here"
_NO_MODEL = "names no model"
_TRAINS_NOTHING = (
    "trains nothing",
    "needs no model",
    "evaluation runs in batches of other programs",
    "answers through an engine of its own",
    "quantizing a model",
    "the model runs elsewhere",
    "takes the share of the GPU it is told to",
    "runs quantized files",
)
"""Reasons of configs that train nothing, and generate nothing with a model's own classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One file: its ``format``, the reading or the refusal, and the CPU time it took.

    ``claimed`` is the dialect that takes the file for its own, ``unknown`` says that its model is neither
    known nor here, ``given`` that it was read with a model given on the command line, for one that is
    unknown or not named.
    """

    name: str
    format: str
    reading: Reading | None
    message: str
    location: Location | None
    claimed: str | None
    unknown: bool
    given: bool
    seconds: float

    @property
    def beyond(self) -> bool:
        """Whether the file was understood, and trains and generates nothing that could be planned."""
        return self.reading is None and any(reason in self.message for reason in _TRAINS_NOTHING)

    @property
    def reason(self) -> str:
        """The refusal without what belongs to this file alone."""
        if self.unknown:
            return _MODEL
        text = self.message.split("\n")[0].replace(str(CORPUS / self.name), "FILE")
        return _NUMBER.sub("N", _QUOTED.sub("'…'", text))


def names() -> tuple[tuple[str, str], ...]:
    """Every file with its format, in the order of the manifest."""
    rows = json.loads((CORPUS / "manifest.json").read_text(encoding="utf-8"))
    return tuple((row["file"], row["dialect"]) for row in rows)


@cache
def outcomes() -> tuple[Outcome, ...]:
    """Every file, read once."""
    return tuple(_outcome(name, kind) for name, kind in names())


def table() -> str:
    """Formats, and how often their files are read as what or refused for which reason."""
    counts: dict[str, Counter[str]] = {}
    for found in outcomes():
        outcome = _described(found)
        counts.setdefault(found.format, Counter())[outcome] += 1
    lines = []
    for kind, found_outcomes in sorted(counts.items()):
        lines.append(f"{kind} ({found_outcomes.total()})")
        ordered = sorted(
            found_outcomes.items(), key=lambda pair: (not pair[0].startswith("read"), -pair[1], pair[0])
        )
        lines += [f"  {count:4}  {outcome}" for outcome, count in ordered]
    return "\n".join(lines) + "\n"


def _described(found: Outcome) -> str:
    if found.reading is None:
        return f"refused: {found.reason}"
    return f"read as {found.reading.dialect}{', given --model' if found.given else ''}"


def _outcome(name: str, kind: str) -> Outcome:
    seconds = float("inf")
    path = CORPUS / name
    for _ in range(_ATTEMPTS):
        started = time.process_time()
        reading, error = _attempt(path)
        seconds = min(seconds, time.process_time() - started)
        if seconds < SLOW:
            break
    claimed = reading.dialect if reading is not None else _claimed(path)
    given = False
    if claimed is not None and error is not None:
        reading, _ = _attempt(path, MODEL)
        given = reading is not None
    return Outcome(
        name=name,
        format=kind,
        reading=reading,
        message="" if error is None else error.message,
        location=None if error is None else error.location,
        claimed=claimed,
        unknown=isinstance(error, UnknownNameError | FileAccessError)
        or (reading is None and error is not None and _NO_MODEL in error.message),
        given=given,
        seconds=seconds,
    )


def _attempt(path: Path, model: str | None = None) -> tuple[Reading | None, MemplanError | None]:
    try:
        return read(path, model=model), None
    except MemplanError as error:
        return None, error


def _claimed(path: Path) -> str | None:
    try:
        return detect(_document(path, Intake(Known()))).NAME
    except MemplanError:
        return None
