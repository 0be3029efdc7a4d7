"""Appends what a run measured to the record of this machine."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Any

from memplan.apply.locks import locked
from memplan.documents.source import Source
from memplan.domain.architecture import Architecture, DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError, FileAccessError, MemplanError
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.wording import worded
from memplan.domain.workload import Task, Workload
from memplan.probe.overhead import installed_build
from memplan.probe.record import CPU, FIGURES, LATER_WORDS, NONE, SCHEMA, WORDS, Entry, entries, parsed

HEADER = """\
# Runs that memplan smoke measured on this machine, in bytes; memplan --gpu auto and --ram auto take the
# CUDA context and what libraries hold of host memory from those alike. Entries may be removed.
"""


def ready(path: Path) -> None:
    """Check, before anything runs, that a run can be appended there.

    Raises:
        MemplanError: the record is broken, another file, or cannot be written.
    """
    entries(path)
    folder = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise FileAccessError(
            f"the record {path} cannot be written: {folder} is closed",
            hint="--no-record writes none, --record FILE another",
        )


def entry_of(workload: Workload, found: Comparison, device: str, driver: str | None) -> Entry:
    """A measured run as an entry; the workload names the releases it was run with."""
    return Entry(
        date=date.today().isoformat(),
        device=device,
        driver=None if device == CPU else driver,
        words=_words(workload),
        predicted=_figures(found.predicted),
        measured=_figures(found.measured),
    )


def _words(workload: Workload) -> dict[str, str]:
    """The run in words; of libraries those that this process has loaded."""
    releases = workload.framework
    known = isinstance(workload.model, Architecture)
    found = (
        releases.torch,
        releases.transformers if "transformers" in sys.modules else NONE,
        str(workload.attention) if known else NONE,
        described(workload),
        digest(workload),
    )
    words = dict(zip(WORDS, found, strict=True))
    build = installed_build()
    return words if build is None else words | dict(zip(LATER_WORDS, build, strict=True))


def append(path: Path, entry: Entry) -> None:
    """Add an entry behind all others; the file is there in whole, or as it was before.

    Raises:
        MemplanError: the record was broken meanwhile, or cannot be written.
    """
    real = Path(os.path.realpath(path))
    part = real.with_name(f".{real.name}.{os.getpid()}")
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        with locked([real.parent]):
            before = Source.open(real, str(path)).text if os.path.exists(real) else HEADER
            text = before + ("" if before.endswith("\n") or not before else "\n") + written(entry)
            _check(Source.of(before, str(path)), Source.of(text, str(path)))
            part.write_text(text, encoding="utf-8", newline="")
            part.replace(real)
    except OSError as error:
        raise FileAccessError(f"the record {path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def written(entry: Entry) -> str:
    """An entry as YAML; text is quoted as in JSON, which YAML reads alike."""
    lines = [
        f"- schema: {SCHEMA}",
        f"  date: {_quoted(entry.date)}",
        f"  device: {_quoted(entry.device)}",
        f"  driver: {'null' if entry.driver is None else _quoted(entry.driver)}",
        *(f"  {name}: {_quoted(word)}" for name, word in entry.words.items()),
        f"  predicted: {_row(entry.predicted)}",
        f"  measured: {_row(entry.measured)}",
    ]
    return "\n".join(lines) + "\n"


def described(workload: Workload) -> str:
    """A workload in words: the model, its size, the batch, and what else decides most."""
    model = workload.model
    if isinstance(model, DeclaredModel):
        return _declared(model)
    name = f"{model.model_type} of {model.parameters:,}"
    batch = f"batch {workload.batch.micro}×{workload.batch.accumulation}"
    if workload.task is Task.GENERATE:
        asked = workload.generate
        return f"generate, {name}, {batch}, {asked.prompt}+{asked.new_tokens} tokens, cache {asked.cache}"
    parts = [
        f"{workload.task}, {name}, {batch}, {workload.sequence.length} tokens",
        f"{workload.optimizer.name} {workload.optimizer.implementation}",
        f"checkpointing {worded(workload.checkpointing)}",
    ]
    parts += [worded(part) for part in (workload.adapter, workload.quantization) if part is not None]
    return ", ".join(parts)


def _declared(model: DeclaredModel) -> str:
    """A mechanism with its settings, or how much is declared."""
    if model.mechanism is None:
        return f"{sum(model.sizes().values()):,} bytes declared"
    return ", ".join((model.mechanism, *(f"{name} {value}" for name, value in model.values)))


def digest(workload: Workload) -> str:
    """Hexadecimal SHA-256 of everything that equal workloads have in common."""
    text = json.dumps(_plain(workload), sort_keys=True, ensure_ascii=True)
    return sha256(text.encode()).hexdigest()


def _plain(found: Any) -> Any:
    if is_dataclass(found):
        return {item.name: _plain(getattr(found, item.name)) for item in fields(found) if item.compare}
    if isinstance(found, Enum):
        return str(found.value)
    if isinstance(found, Mapping):
        return {str(key): _plain(value) for key, value in found.items()}
    if isinstance(found, frozenset | set):
        return sorted(json.dumps(_plain(item), sort_keys=True) for item in found)
    if isinstance(found, tuple | list):
        return [_plain(item) for item in found]
    return found if isinstance(found, str | int | float | None) else str(found)


def _figures(found: Measurement) -> dict[str, Bytes | None]:
    host = (found.rss, found.overhead)
    values = (found.peak_allocated, found.peak_reserved, found.process, found.context, *host)
    return dict(zip(FIGURES, values, strict=True))


def _check(before: Source, after: Source) -> None:
    """Refuse a record that does not simply grow by an entry, such as one in brackets."""
    old = parsed(before)
    try:
        new = parsed(after)
    except MemplanError:
        new = ()
    if not new or new[:-1] != old:
        raise FieldError(f"{before.path} cannot be appended to", expected="a sequence without brackets")


def _quoted(text: str) -> str:
    """Text in double quotes; what YAML would not take as it is, escaped."""
    plain = json.dumps(text, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\u2028\u2029\ufeff]", lambda sign: f"\\u{ord(sign[0]):04x}", plain)


def _row(figures: Mapping[str, Bytes | None]) -> str:
    parts = (f"{name}: {'null' if amount is None else int(amount)}" for name, amount in figures.items())
    return "{" + ", ".join(parts) + "}"
