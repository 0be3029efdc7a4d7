"""TRL and open-instruct configs of real projects: read, written and read again, each of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.domain.errors import FieldError, FileAccessError, MemplanError, UnknownNameError
from memplan.domain.workload import Attention, Checkpointing
from memplan.read import read, reread

STAND_IN = "meta-llama/Llama-3.2-1B"
"""For models that are on somebody's disk."""

NO_RUNS = ("filter_dapo.yaml", "filter_python.yaml")
"""What open-r1 filters data sets by: nothing is trained."""


def listed(corpus: Path, dialect: str) -> Iterator[Path]:
    for entry in json.loads((corpus / "manifest.json").read_text("utf-8")):
        if entry["dialect"] == dialect:
            yield corpus / entry["file"]


def understood(path: Path) -> Reading:
    try:
        return read(path)
    except (FileAccessError, UnknownNameError):
        return read(path, model=STAND_IN)


def wanted(reading: Reading) -> dict[str, Any]:
    """A value other than the present one for every field that has a key."""
    run = reading.workload
    eager = run.attention is Attention.EAGER or run.causal_mask
    found: dict[str, Any] = {
        "batch.micro": run.batch.micro * run.batch.accumulation,
        "batch.accumulation": 1,
        "sequence.length": run.sequence.length + 1,
        "checkpointing": Checkpointing(every=0 if run.checkpointing.every else 1),
        "attention": Attention.SDPA if eager else Attention.EAGER,
        "optimizer": replace(run.optimizer, name="paged_adamw_8bit", implementation="for_loop"),
    }
    if run.evaluation is not None:
        found["evaluation.batch"] = 2 * run.evaluation.batch
    if run.adapter is not None:
        found["adapter.rank"] = run.adapter.rank + 8
    return found


def rewritten(reading: Reading, changes: dict[str, Any]) -> tuple[str, set[str]]:
    asked = [(name, reading.workload.at(name), after) for name, after in changes.items()]
    written, advice = edits(reading, asked)
    return documents.apply(reading.document.source, written), {item.field for item in advice}


def units(reading: Reading) -> Iterator[dict[str, Any]]:
    """Changes that are made by themselves; both batch sizes together."""
    values = wanted(reading)
    yield {name: values.pop(name) for name in ("batch.micro", "batch.accumulation")}
    yield from ({name: value} for name, value in values.items())


def check(path: Path, reading: Reading, changes: dict[str, Any]) -> bool:
    """The laws of one rewrite; whether there is one."""
    text, refused = rewritten(reading, changes)
    if refused:
        assert text == reading.document.source.text
        return False
    again = reread(reading, {str(path): text})
    planned = reading.workload
    for name, after in changes.items():
        planned = planned.changed(name, after)
    assert again.workload == planned
    assert rewritten(again, changes)[0] == text
    back, _ = rewritten(again, {name: reading.workload.at(name) for name in changes})
    if all(stood(reading, name) for name in changes):
        assert back == reading.document.source.text
    return True


def stood(reading: Reading, name: str) -> bool:
    """Whether the file has a key for a field: what was inserted is not taken out again."""
    origins = reading.origins
    around = [path for path in origins if f"{name}.".startswith(f"{path}.") or path.startswith(f"{name}.")]
    parts = [origins[path] for path in around]
    return all(part.how == "written" for part in parts)


@pytest.mark.parametrize("dialect", ["trl", "open_instruct"])
def test_every_config_is_read_as_its_dialect(corpus: Path, dialect: str) -> None:
    for path in listed(corpus, dialect):
        if path.name in NO_RUNS:
            with pytest.raises(FieldError, match="is not a config memplan knows"):
                read(path)
        else:
            assert understood(path).dialect == dialect


@pytest.mark.parametrize("dialect", ["trl", "open_instruct"])
def test_every_field_changed_reads_back_as_planned_and_changed_back_is_the_file(
    corpus: Path, dialect: str
) -> None:
    written: dict[str, int] = {}
    for path in listed(corpus, dialect):
        if path.name in NO_RUNS:
            continue
        reading = understood(path)
        assert rewritten(reading, {})[0] == reading.document.source.text
        for changes in units(reading):
            if check(path, reading, changes):
                for name in changes:
                    written[name] = written.get(name, 0) + 1
    assert min(written[name] for name in ("batch.micro", "sequence.length", "checkpointing")) >= 5


def test_a_broken_value_is_refused_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "sft.yaml"
    path.write_text(
        "model_name_or_path: meta-llama/Llama-3.2-1B\nper_device_train_batch_size: many\nmax_steps: 1\n"
    )
    with pytest.raises(MemplanError) as caught:
        read(path)
    assert caught.value.location is not None
    assert caught.value.location.line == 2
