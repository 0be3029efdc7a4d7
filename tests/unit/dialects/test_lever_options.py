"""Options of levers as frameworks write them: read back they are the plan, and twice is the same as once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.domain.bytes import Bytes
from memplan.domain.target import Target
from memplan.domain.zero import Place
from memplan.levers import Lever, evaluation, host_offload, sharding, workers
from memplan.read import read, reread

TARGET = Target.of_amount(Bytes.parse("24GiB"), ram=Bytes.parse("16GiB"))
MODEL = "meta-llama/Llama-3.2-1B"

TRL = f"model_name_or_path: {MODEL}\ndataset_name: x\nlearning_rate: 1.0e-5\n"
AXOLOTL = f"base_model: {MODEL}\nmicro_batch_size: 1\n"
FACTORY = (
    f"model_name_or_path: {MODEL}\nstage: sft\nfinetuning_type: full\ntemplate: llama3\ncutoff_len: 512\n"
)
SWIFT = f"model: {MODEL}\ntuner_type: full\ndataset: x\n"
OUMI = f"model:\n  model_name: {MODEL}\ntraining:\n  trainer_type: TRL_SFT\n  output_dir: x\n"
SCRIPT = f'{{"model_name_or_path": "{MODEL}", "block_size": 512'

WORKERS = [
    (TRL + "dataloader_num_workers: 4  # fast\n", [2, 1, 0, 0]),
    (TRL + "dataloader_num_workers: 4\ndataloader_prefetch_factor: 8\n", [4, 2, 1, 0, 0]),
    (TRL, [0]),
    (AXOLOTL, [1, 0, 0]),
    (AXOLOTL + "dataloader_num_workers: 2\ndataloader_pin_memory: false\n", [1, 0]),
    (AXOLOTL + "dataloader_prefetch_factor: 4\ndataloader_num_workers: 1\n", [1, 0, 0]),
    (FACTORY + "dataloader_num_workers: 4\n", [2, 1, 0, 0]),
    (SWIFT, [0, 0]),
    (SWIFT + "dataloader_num_workers: 2\n", [1, 0, 0]),
    (OUMI + "  dataloader_num_workers: 2\n  dataloader_prefetch_factor: 32\n", [2, 1, 0, 0]),
    (OUMI + "  dataloader_num_workers: auto\n  dataloader_prefetch_factor: 32\n", [2, 1, 0, 0]),
    (SCRIPT + ', "dataloader_num_workers": 2, "dataloader_prefetch_factor": 4}', [2, 1, 0, 0]),
]
EVALUATIONS = [
    (TRL + "eval_strategy: steps\n", [4, 2, 1]),
    (AXOLOTL + "eval_batch_size: 4\nval_set_size: 0.1\n", [2, 1]),
    (FACTORY + "eval_strategy: steps\nper_device_eval_batch_size: 2\n", [1]),
    (SWIFT + "split_dataset_ratio: 0.1\nper_device_eval_batch_size: 4\n", [2, 1]),
    (OUMI + "  eval_strategy: steps\n", [4, 2, 1]),
    (SCRIPT + ', "eval_strategy": "epoch"}', [4, 2, 1]),
]


def readable(folder: Path, text: str, gpus: int = 1) -> Reading:
    path = folder / ("config.json" if text.startswith("{") else "config.yaml")
    path.write_text(text, encoding="utf-8")
    return read(path, overrides=[f"world.data_parallel={gpus}"] if gpus > 1 else ())


def written(reading: Reading, lever: Lever, *, all_of_them: bool = True) -> list[Reading]:
    """The files after each option of a lever that can be written, as all can unless some are excepted."""
    found = []
    for option in lever.options(reading.workload, TARGET):
        changes = [(name, reading.workload.at(name), after) for name, after in option.changes.items()]
        asked, advice = edits(reading, changes)
        assert not (advice and all_of_them)
        if advice:
            continue
        planned: Any = reading.workload
        for name, _, after in changes:
            planned = planned.changed(name, after)
        texts = {
            path: documents.apply(reading.sources[path], [edit for edit in asked if edit.path == path])
            for path in {edit.path for edit in asked}
        }
        again = reread(reading, texts)
        assert again.workload == planned
        assert not edits(again, changes)[0]
        found.append(again)
    return found


@pytest.mark.parametrize(("text", "counts"), WORKERS)
def test_fewer_workers_are_read_back(tmp_path: Path, text: str, counts: list[int]) -> None:
    found = [reading.workload.host for reading in written(readable(tmp_path, text), workers)]
    assert [use.workers for use in found] == counts
    assert (found[-1].pinned, found[-1].prefetch) == (False, 2)


@pytest.mark.parametrize(("text", "batches"), EVALUATIONS)
def test_smaller_evaluations_are_read_back(tmp_path: Path, text: str, batches: list[int]) -> None:
    found = [reading.workload.evaluation for reading in written(readable(tmp_path, text), evaluation)]
    assert [asked.batch for asked in found if asked is not None] == batches


DEEPSPEED = "deepspeed:\n  enable_deepspeed: true\n  zero_stage: ZERO_{}\n"
JSON = '{{"zero_optimization": {{"stage": {}}}, "train_micro_batch_size_per_gpu": 1}}'
STAGES = [
    (OUMI + DEEPSPEED.format(1), ["zero2", "zero3"]),
    (OUMI + DEEPSPEED.format(2), ["zero3"]),
    (SWIFT + "deepspeed: zero1  # brought along\n", ["zero2"]),
    (TRL + "deepspeed: ds.json\n", ["zero2", "zero3"]),
    (f"memplan: 1\nmodel: {{ref: {MODEL}}}\nworld: {{sharding: none}}\n", ["fsdp2"]),
]


@pytest.mark.parametrize(("text", "stages"), STAGES)
def test_more_shards_are_read_back(tmp_path: Path, text: str, stages: list[str]) -> None:
    (tmp_path / "ds.json").write_text(JSON.format(1), encoding="utf-8")
    found = written(readable(tmp_path, text, gpus=4), sharding, all_of_them="zero1  #" not in text)
    assert [reading.workload.world.sharding for reading in found] == stages


@pytest.mark.parametrize("text", [text for text, stages in STAGES if stages[-1] != "fsdp2"])
def test_states_in_host_memory_are_read_back(tmp_path: Path, text: str) -> None:
    (tmp_path / "ds.json").write_text(JSON.format(1), encoding="utf-8")
    reading = readable(tmp_path, text.replace("zero1", "zero2"), gpus=4)
    (after,) = written(reading, host_offload)
    assert after.workload.world.zero.optimizer is Place.CPU
