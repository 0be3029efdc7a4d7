"""Options of the allocator: in a file where its language has them, else as a line to export."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.levers import allocator
from memplan.read import read, reread

NATIVE = "memplan: 1\nmodel: {ref: meta-llama/Llama-3.2-1B}\n"
AXOLOTL = "base_model: meta-llama/Llama-3.2-1B\nmicro_batch_size: 2\n"
SWIFT = "model: Qwen/Qwen2.5-1.5B\ntuner_type: lora\nper_device_train_batch_size: 2\n"
TRAINER = "model_name_or_path: meta-llama/Llama-3.2-1B\ntrain_file: corpus.txt\n"


def opened(folder: Path, text: str) -> Reading:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path)


def asked(reading: Reading) -> list[tuple[str, object, object]]:
    return [
        (field, reading.workload.at(field), value)
        for option in allocator.options(reading.workload, None)
        for field, value in option.changes.items()
    ]


@pytest.mark.parametrize(
    "text",
    [
        NATIVE,
        NATIVE + "allocator: {max_split_size_mb: 128}\n",
        NATIVE + "allocator: none\n",
        SWIFT + "ENV: {OMP_NUM_THREADS: 4}\n",
        SWIFT + "ENV:\n  PYTORCH_CUDA_ALLOC_CONF: 'max_split_size_mb:128'\n",
        SWIFT + "ENV:\n  PYTORCH_ALLOC_CONF: expandable_segments:False\n",
    ],
)
def test_a_file_that_can_say_it_says_it_and_keeps_the_other_options(tmp_path: Path, text: str) -> None:
    reading = opened(tmp_path, text)
    changes = asked(reading)
    written, advice = edits(reading, changes)
    assert not advice
    after = documents.apply(reading.document.source, written)
    planned = reading.workload.changed("allocator.expandable_segments", True)
    assert reread(reading, {str(reading.path): after}).workload == planned
    assert ("max_split_size_mb" in after) is ("max_split_size_mb" in text)


@pytest.mark.parametrize("text", [TRAINER, SWIFT])
def test_elsewhere_the_line_to_export_is_advised(tmp_path: Path, text: str) -> None:
    reading = opened(tmp_path, text)
    written, (advice,) = edits(reading, asked(reading))
    assert not written
    assert advice.message.startswith("export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True where")


def test_a_framework_that_sets_it_itself_needs_nothing(tmp_path: Path) -> None:
    assert asked(opened(tmp_path, AXOLOTL)) == []
