"""accelerate's config: by itself with a model from the command line, and as the launcher of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError, InputError
from memplan.domain.finding import Level
from memplan.domain.workload import Checkpointing
from memplan.domain.zero import Place
from memplan.read import read, reread

MODEL = "meta-llama/Llama-3.2-1B"
TRAIN = f"base_model: {MODEL}\nbf16: true\nmicro_batch_size: 2\n"
FSDP = "distributed_type: FSDP\nnum_processes: 8\nmixed_precision: bf16\nfsdp_config:\n  fsdp_version: 2\n"
ZERO = "distributed_type: DEEPSPEED\nnum_processes: 4\nmixed_precision: bf16\ndeepspeed_config:\n"


def alone(folder: Path, text: str, **options: Any) -> Reading:
    path = folder / "accelerate.yaml"
    path.write_text(text)
    return read(path, model=MODEL, **options)


def job(folder: Path, launcher: str, train: str = TRAIN, **options: Any) -> Reading:
    (folder / "train.yml").write_text(train)
    (folder / "launch.yaml").write_text(launcher)
    return read(folder / "train.yml", beside=[folder / "launch.yaml"], **options)


WORLDS = [
    ("distributed_type: 'NO'\nmixed_precision: 'no'", "none", 1, None),
    ("distributed_type: NO", "none", 1, None),
    ("distributed_type: MULTI_GPU\nnum_processes: 4\nmixed_precision: fp16", "none", 4, Dtype.FP16),
    ("distributed_type: FSDP\nnum_processes: 2\nmixed_precision: bf16", "fsdp1", 2, Dtype.BF16),
    ("distributed_type: FSDP\nfsdp_config: {fsdp_sharding_strategy: NO_SHARD}", "none", 1, None),
    (FSDP, "fsdp2", 8, None),
    (ZERO + "  zero_stage: 3", "zero3", 4, None),
    ("distributed_type: DEEPSPEED\nnum_processes: 4", "zero2", 4, None),
    (FSDP + "parallelism_config:\n  parallelism_config_tp_size: 2", "fsdp2", 4, None),
]


@pytest.mark.parametrize(("text", "sharding", "gpus", "autocast"), WORLDS)
def test_world_and_precision_are_what_accelerate_sets_up(
    tmp_path: Path, text: str, sharding: str, gpus: int, autocast: Dtype | None
) -> None:
    run = alone(tmp_path, text).workload
    found = (run.world.sharding, run.world.data_parallel, run.precision.autocast)
    assert found == (sharding, gpus, autocast)


def test_fsdp2_computes_by_its_policy_and_keeps_what_is_trained_in_fp32(tmp_path: Path) -> None:
    run = alone(tmp_path, FSDP).workload
    assert (run.world.param_dtype, run.world.reduce_dtype) == (Dtype.BF16, Dtype.BF16)
    assert run.precision.params is Dtype.FP32
    assert run.optimizer.implementation == "for_loop"


def test_the_few_settings_of_deepspeed_are_read(tmp_path: Path) -> None:
    run = alone(tmp_path, ZERO + "  offload_optimizer_device: cpu\n  gradient_accumulation_steps: 4").workload
    assert run.world.zero.optimizer is Place.CPU
    assert run.batch.accumulation == 4


def test_a_deepspeed_config_that_is_named_is_read_beside(tmp_path: Path) -> None:
    config = {"zero_optimization": {"stage": 1}, "train_micro_batch_size_per_gpu": 2}
    (tmp_path / "ds.json").write_text(json.dumps(config))
    reading = job(tmp_path, ZERO + "  deepspeed_config_file: ds.json")
    assert reading.workload.world.sharding == "zero1"
    assert reading.findings == ()
    assert sorted(Path(name).name for name in reading.files) == ["ds.json", "launch.yaml", "train.yml"]


REFUSED = [
    ("distributed_type: 'NO'\nnum_proceses: 2", "no such key"),
    ("distributed_type: SHARDED", "not one of its values"),
    ("distributed_type: FSDP\ncompute_environment: AMAZON_SAGEMAKER", "SageMaker"),
    ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 4}", "too large"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_accelerate_refuses_is_a_located_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FieldError, match=message) as caught:
        alone(tmp_path, text)
    assert caught.value.location is not None


FINDINGS = [
    (ZERO + "  gradient_accumulation_steps: 4", TRAIN, Level.ERROR, "gradient_accumulation_steps is 4"),
    (
        FSDP + "  fsdp_activation_checkpointing: true",
        "gradient_checkpointing: true\n",
        Level.ERROR,
        "refuses",
    ),
    ("distributed_type: MULTI_GPU\nmixed_precision: fp16", TRAIN, Level.WARNING, "training config counts"),
    (FSDP, "deepspeed: {zero_optimization: {stage: 3}}\n", Level.WARNING, "DeepSpeed counts"),
    (ZERO + "  zero_stage: 2", "deepspeed: {zero_optimization: {stage: 3}}\n", Level.WARNING, "of its own"),
    ("distributed_type: MULTI_GPU\nnum_processes: 4", "dp_shard_size: 2\n", Level.WARNING, "launcher's"),
    (
        "distributed_type: DEEPSPEED\nnum_processes: 4",
        "deepspeed: {train_batch_size: 4, zero_optimization: {stage: 2}}\n",
        Level.ERROR,
        "made for 2",
    ),
]


@pytest.mark.parametrize(("launcher", "train", "level", "message"), FINDINGS)
def test_contradictions_name_both_places_and_who_wins(
    tmp_path: Path, launcher: str, train: str, level: Level, message: str
) -> None:
    text = train if train == TRAIN else TRAIN + train
    (found,) = job(tmp_path, launcher, text).findings
    assert found.level is level
    assert message in found.message
    assert Path(found.path).name == "launch.yaml"


def test_a_run_that_agrees_with_its_launcher_has_no_findings(tmp_path: Path) -> None:
    reading = job(tmp_path, FSDP.replace("fsdp_version: 2", "fsdp_version: 1"))
    assert reading.findings == ()
    assert reading.workload.world.sharding == "fsdp1"
    assert reading.workload.world.data_parallel == 8
    place = reading.origins["world.data_parallel"].location
    assert place is not None
    assert (Path(place.path).name, place.line) == ("launch.yaml", 2)


def test_fsdp1_is_set_up_as_the_launcher_says(tmp_path: Path) -> None:
    settings = "  fsdp_backward_prefetch: BACKWARD_POST\n  fsdp_use_orig_params: false\n"
    settings += "  fsdp_forward_prefetch: true\n"
    older = FSDP.replace("fsdp_version: 2", "fsdp_version: 1")
    world = job(tmp_path, older + settings).workload.world
    assert (world.backward_prefetch, world.forward_prefetch, world.use_orig_params) == ("post", True, False)
    world = job(tmp_path, older).workload.world
    assert (world.backward_prefetch, world.forward_prefetch, world.use_orig_params) == ("none", False, True)


def test_gpus_of_the_command_line_win_over_the_launcher(tmp_path: Path) -> None:
    assert job(tmp_path, FSDP, overrides=["world.data_parallel=2"]).workload.world.data_parallel == 2


def test_a_folder_with_one_run_and_one_launcher_is_a_job(tmp_path: Path) -> None:
    job(tmp_path, FSDP)
    reading = read(tmp_path)
    assert reading.dialect == "axolotl"
    assert reading.workload.world.sharding == "fsdp2"
    assert reread(reading).workload == reading.workload


def test_of_two_launchers_in_a_folder_none_is_taken_and_that_is_said(tmp_path: Path) -> None:
    job(tmp_path, FSDP)
    (tmp_path / "other.yaml").write_text(ZERO + "  zero_stage: 3")
    reading = read(tmp_path)
    assert reading.workload.world.sharding == "none"
    assert any("name one with --with" in warning for warning in reading.warnings)


def test_two_training_configs_are_no_job(tmp_path: Path) -> None:
    job(tmp_path, FSDP)
    with pytest.raises(InputError, match="config of its own"):
        read(tmp_path / "train.yml", beside=[tmp_path / "train.yml"])


WRITTEN = [
    (FSDP + "  fsdp_reshard_after_forward: true\n", "world.reshard_after_forward", False),
    (FSDP + "  fsdp_activation_checkpointing: true # fast\n", "checkpointing", Checkpointing()),
    (ZERO + "  zero_stage: 2\n", "world.sharding", "zero3"),
    (ZERO + "  offload_optimizer_device: none\n", "world.zero.optimizer", Place.CPU),
    (ZERO + "  gradient_accumulation_steps: 4\n", "batch.accumulation", 2),
]


@pytest.mark.parametrize(("text", "field", "after"), WRITTEN)
def test_a_changed_value_is_read_back_and_changed_back_byte_for_byte(
    tmp_path: Path, text: str, field: str, after: Any
) -> None:
    reading = alone(tmp_path, text)
    before = reading.workload.at(field)
    written, advice = edits(reading, [(field, before, after)])
    assert advice == ()
    changed = documents.apply(reading.document.source, written)
    again = reread(reading, {str(reading.path): changed})
    assert again.workload == reading.workload.changed(field, after)
    back, _ = edits(again, [(field, after, before)])
    assert documents.apply(again.document.source, back) == text


def test_values_go_into_the_file_that_holds_them(tmp_path: Path) -> None:
    launcher = ZERO + "  zero_stage: 2\n  gradient_accumulation_steps: 1\n"
    reading = job(tmp_path, launcher, TRAIN + "gradient_accumulation_steps: 1\n")
    changes = [("batch.micro", 2, 1), ("batch.accumulation", 1, 2), ("world.sharding", "zero2", "zero3")]
    written, advice = edits(reading, changes)
    assert advice == ()
    assert sorted((Path(edit.path).name, edit.before, edit.after) for edit in written) == [
        ("launch.yaml", "1", "2"),
        ("launch.yaml", "2", "3"),
        ("train.yml", "1", "2"),
        ("train.yml", "2", "1"),
    ]


def test_every_accelerate_config_of_the_corpus_is_read_but_the_one_that_accelerate_refuses(
    corpus: Path,
) -> None:
    entries = json.loads((corpus / "manifest.json").read_text())
    paths = [corpus / item["file"] for item in entries if item["dialect"] == "accelerate"]
    refused = []
    for path in paths:
        try:
            assert read(path, model=MODEL).dialect == "accelerate"
        except InputError as error:
            assert error.location is not None
            refused.append(path.name)
    assert len(paths) >= 40
    assert refused == ["invalid_keys.yaml"]
