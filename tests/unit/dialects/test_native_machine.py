"""memplan's own dialect: host, saving and offloading, read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memplan.dialects import edits
from memplan.documents.edits import apply
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError
from memplan.domain.host import ActivationOffload, HostUse, Saving
from memplan.domain.workload import Checkpointing, Workload
from memplan.read import read

BASE = "memplan: 1\nmodel: {ref: HuggingFaceTB/SmolLM2-135M}\n"


def workload(tmp_path: Path, text: str) -> Workload:
    path = tmp_path / "run.yml"
    path.write_text(BASE + text)
    return read(path).workload


READ: list[tuple[str, str, Any]] = [
    (
        "host: {loading: direct, published: fp32, workers: 4, prefetch: 8, pinned: false}",
        "host",
        HostUse(loading="direct", published=Dtype.FP32, workers=4, prefetch=8, pinned=False),
    ),
    ("", "host", HostUse()),
    ("saving: {kept: 0, optimizer: false}", "saving", Saving(kept=0, optimizer=False)),
    ("checkpointing: {every: 2, offload: true}", "checkpointing", Checkpointing(every=2, offload=True)),
    ("activation_offload: save_on_cpu", "activation_offload", ActivationOffload.SAVE_ON_CPU),
]


@pytest.mark.parametrize(("text", "field", "expected"), READ)
def test_what_goes_on_around_the_gpu_is_read(tmp_path: Path, text: str, field: str, expected: Any) -> None:
    assert workload(tmp_path, text).at(field) == expected


@pytest.mark.parametrize(
    "text",
    ["host: {loading: mmap}", "host: {workers: -1}", "saving: {kept: all}", "activation_offload: true"],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(FieldError):
        workload(tmp_path, text)


CHANGES: list[tuple[str, Any]] = [
    ("checkpointing", Checkpointing(every=1, offload=True)),
    ("checkpointing", Checkpointing(every=2, reentrant=True, offload=True)),
    ("activation_offload", ActivationOffload.STREAMS),
    ("host.workers", 3),
    ("saving.optimizer", False),
]


@pytest.mark.parametrize(("field", "value"), CHANGES)
def test_what_is_written_is_read_back(tmp_path: Path, field: str, value: Any) -> None:
    path = tmp_path / "run.yml"
    path.write_text(BASE)
    reading = read(path)
    written, advice = edits(reading, [(field, reading.workload.at(field), value)])
    assert advice == ()
    path.write_text(apply(reading.document.source, written))
    assert read(path).workload.at(field) == value
