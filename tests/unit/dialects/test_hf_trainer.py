"""What argument files of transformers' own scripts say about memory, and what is written into them."""

from __future__ import annotations

from pathlib import Path

from memplan.dialects import edits
from memplan.documents import edits as documents
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention, Checkpointing
from memplan.read import read, reread

ARGUMENTS = """\
{
    "model_name_or_path": "openai-community/gpt2",
    "train_file": "corpus.txt",
    "per_device_train_batch_size": 16,
    "bf16": true,
    "output_dir": "out"
}
"""


def test_defaults_are_the_trainers_own(tmp_path: Path) -> None:
    path = tmp_path / "args.json"
    path.write_text(ARGUMENTS, encoding="utf-8")
    reading = read(path)
    run = reading.workload
    assert reading.dialect == "hf_trainer"
    assert (run.batch.micro, run.batch.accumulation, run.sequence.length) == (16, 1, 1024)
    assert (run.precision.params, run.precision.autocast) == (Dtype.FP32, Dtype.BF16)
    assert (run.checkpointing.every, run.loss.kind) == (0, "cross_entropy")
    assert reading.origins["sequence.length"].how == "assumed"


def test_json_is_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "args.json"
    path.write_text(ARGUMENTS, encoding="utf-8")
    reading = read(path)
    run = reading.workload
    wanted = {"batch.micro": 4, "batch.accumulation": 4, "checkpointing": Checkpointing(every=1)}
    written, advice = edits(reading, [(name, run.at(name), value) for name, value in wanted.items()])
    assert not advice
    text = documents.apply(reading.document.source, written)
    planned = run
    for name, value in wanted.items():
        planned = planned.changed(name, value)
    assert reread(reading, {str(path): text}).workload == planned
    changed = ARGUMENTS.replace(": 16,", ": 4,")
    kept = [line for line in changed.splitlines() if line in text.splitlines()]
    assert kept == changed.splitlines()


def test_the_scripts_have_no_key_for_attention(tmp_path: Path) -> None:
    path = tmp_path / "args.json"
    path.write_text(ARGUMENTS, encoding="utf-8")
    reading = read(path)
    written, advice = edits(reading, [("attention", reading.workload.attention, Attention.EAGER)])
    assert not written
    assert advice
