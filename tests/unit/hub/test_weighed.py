"""A config beside its weights: they say the dtype, and a finding says where the two differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.dialects.reading import Reading
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.read import read
from tests.unit.hub.stand_in import LLAMA, safetensors, tensors

QUANTIZED = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}


def job(folder: Path, config: dict[str, Any], weights: bytes | None = None) -> Reading:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(config))
    if weights is not None:
        (folder / "model" / "model.safetensors").write_bytes(weights)
    path = folder / "train.yml"
    path.write_text("base_model: ./model\nadapter: lora\nlora_r: 8\nlora_target_linear: true\n")
    return read(path)


def test_weights_that_agree_are_no_finding(tmp_path: Path) -> None:
    reading = job(tmp_path, LLAMA, safetensors(tensors()))
    assert reading.findings == ()


def test_a_tied_head_that_was_saved_twice_is_no_finding(tmp_path: Path) -> None:
    entries = {**tensors(), "lm_head.weight": ("BF16", (256, 64))}
    assert job(tmp_path, LLAMA, safetensors(entries)).findings == ()


def test_weights_that_differ_are_a_finding_with_both_counts(tmp_path: Path) -> None:
    reading = job(tmp_path, {**LLAMA, "num_hidden_layers": 3}, safetensors(tensors()))
    (finding,) = reading.findings
    assert finding.path.endswith("config.json")
    assert isinstance(reading.workload.model, Architecture)
    assert f"{reading.workload.model.parameters:,}" in finding.message
    assert "90,432" in finding.message


@pytest.mark.parametrize(("name", "dtype"), [("F32", Dtype.FP32), ("F16", Dtype.FP16)])
def test_the_files_say_the_dtype_that_the_config_does_not(tmp_path: Path, name: str, dtype: Dtype) -> None:
    config = {key: value for key, value in LLAMA.items() if key != "torch_dtype"}
    reading = job(tmp_path, config, safetensors(tensors(dtype=name)))
    assert reading.workload.host.published is dtype


def test_a_model_directory_is_read_in_the_dtype_of_its_weights(tmp_path: Path) -> None:
    config = {key: value for key, value in LLAMA.items() if key != "torch_dtype"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read(tmp_path).workload.precision.params is Dtype.BF16
    (tmp_path / "model.safetensors").write_bytes(safetensors(tensors(dtype="F32")))
    reading = read(tmp_path)
    assert reading.workload.precision.params is Dtype.FP32
    assert reading.origins["precision.params"].how == "default"


def test_weights_that_cannot_be_read_are_a_warning(tmp_path: Path) -> None:
    reading = job(tmp_path, LLAMA, b"version https://git-lfs.github.com/spec/v1\n")
    assert any("left out" in warning for warning in reading.warnings)


def test_a_model_published_in_nf4_is_loaded_in_nf4(tmp_path: Path) -> None:
    reading = job(tmp_path, {**LLAMA, "quantization_config": QUANTIZED})
    found = reading.workload.quantization
    assert found is not None
    assert (found.kind, found.double, found.compute) == ("nf4", True, Dtype.BF16)
    assert reading.origins["quantization"].note == "the model's files are quantized"


def test_a_model_published_in_int8_is_loaded_in_int8(tmp_path: Path) -> None:
    reading = job(tmp_path, {**LLAMA, "quantization_config": {"load_in_8bit": True}})
    assert reading.workload.quantization is not None
    assert reading.workload.quantization.kind == "int8"


def test_other_layouts_are_named_as_what_is_not_simulated(tmp_path: Path) -> None:
    reading = job(tmp_path, {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    assert reading.workload.quantization is None
    assert any("gptq" in item.reason for item in reading.workload.unmodelled)


def test_what_the_run_asks_for_wins_over_what_was_published(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    config = {**LLAMA, "quantization_config": {"load_in_8bit": True}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    path = tmp_path / "train.yml"
    path.write_text("base_model: ./model\nadapter: qlora\nload_in_4bit: true\nlora_target_linear: true\n")
    found = read(path).workload.quantization
    assert found is not None
    assert found.kind == "nf4"


def test_a_folder_named_as_a_known_model_is_taken_for_it_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "train.yml"
    path.write_text("base_model: /tmp/nowhere/Qwen2.5-0.5B-Instruct\nmicro_batch_size: 1\n")
    reading = read(path)
    assert any("taken for Qwen/Qwen2.5-0.5B-Instruct" in warning for warning in reading.warnings)
