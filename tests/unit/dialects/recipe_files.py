"""Recipe files of torchtune and litgpt as they are published, and changes to every field they can hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.domain.errors import UnknownNameError
from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Checkpointing
from memplan.read import read

STAND_IN = "meta-llama/Llama-3.2-1B"
"""For models that nobody knows offline."""

CONVERTS = "quantization.yaml"
"""Of a recipe that converts weights: the one that is refused."""


def listed(corpus: Path, dialect: str) -> list[Path]:
    """The files of a dialect that describe a run."""
    entries = json.loads((corpus / "manifest.json").read_text("utf-8"))
    found = [corpus / entry["file"] for entry in entries if entry["dialect"] == dialect]
    return [path for path in found if path.name != CONVERTS]


def understood(path: Path) -> Reading:
    """A file's reading, with another model where its own is not known."""
    try:
        return read(path)
    except UnknownNameError:
        return read(path, model=STAND_IN)


def changes(reading: Reading) -> Iterator[dict[str, Any]]:
    """A value other than the present one for every field that has a key, each by itself."""
    run = reading.workload
    yield {"batch.micro": 2 * run.batch.micro, "batch.accumulation": run.batch.accumulation}
    yield {"batch.micro": 1, "batch.accumulation": run.batch.micro * run.batch.accumulation}
    yield {"sequence.length": run.sequence.length // 2}
    yield {"checkpointing": Checkpointing(every=0 if run.checkpointing.every else 1)}
    off = run.activation_offload is ActivationOffload.NONE
    yield {"activation_offload": ActivationOffload.STREAMS if off else ActivationOffload.NONE}
    yield {"loss": replace(run.loss, chunks=run.loss.chunks + 1)}
    yield {"optimizer": replace(run.optimizer, name="paged_adamw_8bit", implementation="for_loop")}
    if run.adapter is not None:
        yield {"adapter.rank": 2 * run.adapter.rank}
        yield {"adapter.dropout": 0.25}
        yield {"adapter.targets": run.adapter.targets[:1]}


def rewritten(reading: Reading, wanted: dict[str, Any]) -> tuple[str, bool]:
    """The text with changes made, and whether they all could be."""
    asked = [(name, reading.workload.at(name), after) for name, after in wanted.items()]
    written, advice = edits(reading, asked)
    return documents.apply(reading.document.source, written), not advice


def stood(reading: Reading, name: str) -> bool:
    """Whether the file holds a field, so that an older value can be put back in its place."""
    parts = [origin for path, origin in reading.origins.items() if f"{path}.".startswith(f"{name}.")]
    return bool(parts) and all(part.how == "written" for part in parts)
