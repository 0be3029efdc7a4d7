"""DeepSpeed's JSON: by itself with a model from the command line, and beside the config that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.dialects.zero import batch
from memplan.documents import edits as documents
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError, InputError
from memplan.domain.finding import Level
from memplan.domain.workload import Batch
from memplan.domain.zero import Place
from memplan.read import read, reread
from tests.unit.dialects.test_axolotl import axolotl

MODEL = "meta-llama/Llama-3.2-1B"
FP16 = {"fp16": {"enabled": True}, "zero_optimization": {"stage": 2}}


def alone(folder: Path, config: dict[str, Any], **options: Any) -> Reading:
    path = folder / "ds.json"
    path.write_text(json.dumps(config, indent=2))
    return read(path, model=MODEL, **options)


def rewritten(reading: Reading, field: str, after: Any) -> tuple[dict[str, Any], list[str]]:
    """The config with one value changed, and what could not be."""
    written, advice = edits(reading, [(field, reading.workload.at(field), after)])
    text = documents.apply(reading.document.source, written)
    if not advice:
        again = reread(reading, {str(reading.path): text})
        assert again.workload == reading.workload.changed(field, after)
    return json.loads(text), [item.message for item in advice]


BATCHES: list[tuple[dict[str, Any], list[str], Batch, int]] = [
    ({"train_batch_size": 8}, [], Batch(micro=8), 1),
    ({"train_batch_size": 8}, ["world.data_parallel=4"], Batch(micro=2), 4),
    ({"train_batch_size": 64, "train_micro_batch_size_per_gpu": 4}, [], Batch(micro=4, accumulation=16), 1),
    (
        {"train_batch_size": 64, "gradient_accumulation_steps": 4},
        ["world.data_parallel=2"],
        Batch(micro=8, accumulation=4),
        2,
    ),
    ({"train_micro_batch_size_per_gpu": 4}, [], Batch(micro=4), 1),
    (
        {"train_batch_size": 64, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2},
        [],
        Batch(micro=4, accumulation=2),
        8,
    ),
    ({"train_batch_size": "auto", "gradient_accumulation_steps": 4}, [], Batch(accumulation=4), 1),
]


@pytest.mark.parametrize(("config", "overrides", "found", "gpus"), BATCHES)
def test_the_batch_is_worked_out_as_deepspeed_does(
    tmp_path: Path, config: dict[str, Any], overrides: list[str], found: Batch, gpus: int
) -> None:
    run = alone(tmp_path, {**FP16, **config}, overrides=overrides).workload
    assert (run.batch, run.world.data_parallel) == (found, gpus)


def test_a_global_batch_that_gpus_do_not_divide_is_a_located_error(tmp_path: Path) -> None:
    with pytest.raises(FieldError) as caught:
        alone(tmp_path, {**FP16, "train_batch_size": 4}, overrides=["world.data_parallel=8"])
    assert caught.value.location is not None


def test_stage_precision_optimizer_and_clipping_are_read(tmp_path: Path) -> None:
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "fp16": {"enabled": True},
        "gradient_clipping": 0,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
        "zero_optimization": {"stage": 1, "cpu_offload": True, "stage3_max_live_parameters": "auto"},
    }
    reading = alone(tmp_path, config)
    run = reading.workload
    assert run.world.sharding == "zero1"
    assert run.world.zero.optimizer is Place.CPU
    assert (run.precision.params, run.precision.autocast) == (Dtype.FP16, None)
    assert (run.optimizer.name, run.optimizer.implementation, run.optimizer.clipping) == (
        "adamw",
        "fused",
        False,
    )
    assert any("max_live_parameters: auto" in warning for warning in reading.warnings)


def test_without_zero_a_half_run_has_fp32_copies_and_says_what_is_not_simulated(tmp_path: Path) -> None:
    run = alone(tmp_path, {"train_batch_size": 1, "bf16": {"enabled": True}}).workload
    assert run.world.sharding == "none"
    assert run.precision.master is Dtype.FP32
    assert "without ZeRO" in run.unmodelled[0].reason


def test_sections_that_are_not_simulated_are_named_with_their_place(tmp_path: Path) -> None:
    config = {
        **FP16,
        "train_batch_size": 1,
        "tensor_parallel": {"autotp_size": 4},
        "compile": {"deepcompile": False},
    }
    (found,) = alone(tmp_path, config).workload.unmodelled
    assert "ds.json:" in found.reason
    assert "autotp_size" in found.reason


def test_without_a_model_the_error_says_how_to_give_one(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(FP16))
    with pytest.raises(FieldError, match="names no model") as caught:
        read(path)
    assert "--model" in str(caught.value)
    assert caught.value.location is not None


def test_a_model_for_a_config_that_names_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.yml"
    path.write_text(f"base_model: {MODEL}\n")
    with pytest.raises(InputError, match="names its model itself"):
        read(path, model=MODEL)


def test_a_smaller_micro_batch_keeps_the_products_a_config_states(tmp_path: Path) -> None:
    config = {**FP16, "train_batch_size": 16, "train_micro_batch_size_per_gpu": 8}
    reading = alone(tmp_path, config)
    changes = [("batch.micro", 8, 2), ("batch.accumulation", 2, 8)]
    written, advice = edits(reading, changes)
    text = documents.apply(reading.document.source, written)
    assert not advice
    assert json.loads(text) == {**config, "train_micro_batch_size_per_gpu": 2}


def test_missing_sizes_are_added_only_where_they_are_needed(tmp_path: Path) -> None:
    config, advice = rewritten(alone(tmp_path, {**FP16, "train_batch_size": 8}), "batch.accumulation", 2)
    assert advice == []
    assert config == {**FP16, "train_batch_size": 16, "gradient_accumulation_steps": 2}


def test_sizes_left_to_the_trainer_are_not_written(tmp_path: Path) -> None:
    left = {**FP16, "train_micro_batch_size_per_gpu": "auto"}
    config, advice = rewritten(alone(tmp_path, left), "batch.micro", 2)
    assert config == left
    assert "by hand" in advice[0]


ZERO = [
    ("world.sharding", "zero3", {"stage": 3}),
    ("world.zero.reduce_bucket", 1000, {"stage": 2, "reduce_bucket_size": 1000}),
    ("world.zero.overlap", True, {"stage": 2, "overlap_comm": True}),
    ("world.zero.optimizer", Place.CPU, {"stage": 2, "offload_optimizer": {"device": "cpu"}}),
]


@pytest.mark.parametrize(("field", "after", "section"), ZERO)
def test_settings_of_zero_are_written_under_deepspeeds_names(
    tmp_path: Path, field: str, after: Any, section: dict[str, Any]
) -> None:
    config, advice = rewritten(alone(tmp_path, {**FP16, "train_batch_size": 1}), field, after)
    assert advice == []
    assert config["zero_optimization"] == section


def test_turning_zero_off_is_left_to_a_person(tmp_path: Path) -> None:
    _, advice = rewritten(alone(tmp_path, {**FP16, "train_batch_size": 1}), "world.sharding", "none")
    assert "different optimizers" in advice[0]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.fixed_dictionaries(
        {}, optional={name: st.sampled_from([1, 2, 4, 8, 64]) for name in batch.SIZES}
    ),
    micro=st.integers(1, 16),
    accumulation=st.integers(1, 16),
)
def test_any_batch_that_is_written_is_read_back(
    tmp_path: Path, sizes: dict[str, int], micro: int, accumulation: int
) -> None:
    try:
        reading = alone(tmp_path, {**FP16, **sizes})
    except FieldError:
        return
    before = reading.workload.batch
    changes = [
        ("batch.micro", before.micro, micro),
        ("batch.accumulation", before.accumulation, accumulation),
    ]
    written, advice = edits(reading, changes)
    if advice:
        return
    text = documents.apply(reading.document.source, written)
    again = reread(reading, {str(reading.path): text})
    assert again.workload.batch == Batch(micro=micro, accumulation=accumulation)


def joined(folder: Path, config: dict[str, Any], text: str) -> Reading:
    (folder / "ds.json").write_text(json.dumps(config, indent=2))
    return axolotl(folder, f"deepspeed: ds.json\n{text}")


DISAGREEMENTS = [
    ({"train_micro_batch_size_per_gpu": 4}, "micro_batch_size: 2", "train_micro_batch_size_per_gpu is 4"),
    ({"gradient_accumulation_steps": 4}, "", "gradient_accumulation_steps is 4 here but 1 by default"),
    ({"train_batch_size": 7}, "micro_batch_size: 2", "train_batch_size is 7"),
    ({"bf16": {"enabled": False}}, "bf16: true", "bf16 is off"),
    ({"fp16": {"enabled": True}}, "bf16: true", "fp16 is on"),
]


@pytest.mark.parametrize(("config", "text", "message"), DISAGREEMENTS)
def test_what_the_trainer_would_refuse_is_an_error_with_both_places(
    tmp_path: Path, config: dict[str, Any], text: str, message: str
) -> None:
    (found,) = joined(tmp_path, {"zero_optimization": {"stage": 2}, **config}, text).findings
    assert (found.level, found.code, Path(found.path).name) == (Level.ERROR, "MP006", "ds.json")
    assert message in found.message
    assert ("config.yml:" in found.message) == bool(text)


AGREEMENTS: list[tuple[dict[str, Any], str]] = [
    ({"train_micro_batch_size_per_gpu": "auto", "bf16": {"enabled": "auto"}}, "micro_batch_size: 2"),
    ({"train_batch_size": 16}, "micro_batch_size: 2\ngradient_accumulation_steps: 2"),
    ({"bf16": {"enabled": True}, "fp16": {"enabled": False}}, "bf16: auto"),
]


@pytest.mark.parametrize(("config", "text"), AGREEMENTS)
def test_what_agrees_is_no_finding(tmp_path: Path, config: dict[str, Any], text: str) -> None:
    assert joined(tmp_path, {"zero_optimization": {"stage": 2}, **config}, text).findings == ()


def test_a_global_batch_says_over_how_many_gpus_it_is_spread(tmp_path: Path) -> None:
    reading = joined(
        tmp_path, {"train_batch_size": 16, "zero_optimization": {"stage": 3}}, "micro_batch_size: 2"
    )
    assert reading.workload.world.data_parallel == 8
    assert not any("over how many GPUs" in warning for warning in reading.warnings)


def test_a_config_is_found_from_the_root_of_a_repository(tmp_path: Path) -> None:
    (tmp_path / "zero").mkdir()
    (tmp_path / "zero" / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 1}}))
    folder = tmp_path / "examples" / "llama"
    folder.mkdir(parents=True)
    assert axolotl(folder, "deepspeed: zero/ds.json").workload.world.sharding == "zero1"


def test_a_number_of_gpus_that_the_global_batch_contradicts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(json.dumps({"train_batch_size": 16, **FP16}))
    path = tmp_path / "train.yml"
    path.write_text(f"base_model: {MODEL}\nmicro_batch_size: 2\nfp16: true\ndeepspeed: ds.json\n")
    (found,) = read(path, overrides=["world.data_parallel=4"]).findings
    assert "train_batch_size is 16 here but 2 x 1 x 4 GPUs" in found.message


def test_deepspeed_and_fsdp_together_are_a_finding(tmp_path: Path) -> None:
    (found,) = joined(tmp_path, {"zero_optimization": {"stage": 3}}, "fsdp: full_shard").findings
    assert "DeepSpeed counts" in found.message
    assert found.level is Level.WARNING


def test_a_batch_goes_into_every_file_that_states_it(tmp_path: Path) -> None:
    config = {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": "auto"}
    reading = joined(tmp_path, config, "micro_batch_size: 4\ngradient_accumulation_steps: 2")
    written, advice = edits(reading, [("batch.micro", 4, 2), ("batch.accumulation", 2, 4)])
    assert advice == ()
    assert sorted((Path(edit.path).name, edit.before, edit.after) for edit in written) == [
        ("config.yml", "2", "4"),
        ("config.yml", "4", "2"),
        ("ds.json", "4", "2"),
    ]


def test_what_only_deepspeed_decides_goes_into_its_file(tmp_path: Path) -> None:
    reading = joined(tmp_path, {"zero_optimization": {"stage": 2}}, "")
    written, advice = edits(reading, [("world.sharding", "zero2", "zero3")])
    assert advice == ()
    assert [(Path(edit.path).name, edit.after) for edit in written] == [("ds.json", "3")]


def test_every_json_of_deepspeed_in_the_corpus_is_read_or_refused_with_its_place(corpus: Path) -> None:
    entries = json.loads((corpus / "manifest.json").read_text())
    paths = [corpus / item["file"] for item in entries if item["dialect"] == "deepspeed"]
    refused = []
    for path in paths:
        try:
            reading = read(path, model=MODEL)
        except InputError as error:
            assert error.location is not None
            refused.append(path.name)
            continue
        assert reading.dialect == "deepspeed"
        assert documents.apply(reading.document.source, edits(reading, [])[0]) == reading.document.source.text
    assert len(paths) >= 80
    # Four templates are no JSON, and one file has neither ZeRO nor a batch.
    assert len(refused) == 5


def test_the_dtype_that_gradients_travel_in_is_written_where_it_stands(tmp_path: Path) -> None:
    config = {"bf16": {"enabled": True}, "zero_optimization": {"stage": 2}}
    reading = alone(tmp_path, {**config, "communication_data_type": "fp32"})
    after, refused = rewritten(reading, "world.zero.communication", Dtype.BF16)
    assert not refused
    assert after["communication_data_type"] == "bf16"
    silent = rewritten(alone(tmp_path, config), "world.zero.communication", Dtype.FP32)
    assert "communication_data_type is not written" in silent[1][0]


@pytest.mark.parametrize(("stage", "named"), [(1, True), (2, True), (3, False)])
def test_parameters_that_are_dealt_out_in_turn_are_named(tmp_path: Path, stage: int, named: bool) -> None:
    config = {"zero_optimization": {"stage": stage, "round_robin_gradients": True}, "bf16": {"enabled": True}}
    found = alone(tmp_path, config).workload.unmodelled
    assert any("round_robin_gradients" in gap.reason for gap in found) is named
    off = {"zero_optimization": {"stage": stage, "round_robin_gradients": False}, "bf16": {"enabled": True}}
    assert not alone(tmp_path, off).workload.unmodelled
