"""PEFT's adapter_config.json, by itself and beside a model or a training config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.dialects import edits
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError, InputError
from memplan.domain.workload import Adapter
from memplan.estimate import estimate
from memplan.read import read

BASE = "meta-llama/Llama-3.2-1B"
LORA: dict[str, Any] = {
    "peft_type": "LORA",
    "base_model_name_or_path": BASE,
    "r": 16,
    "target_modules": ["q_proj", "v_proj"],
    "inference_mode": True,
}


def adapter(folder: Path, **changed: Any) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**LORA, **changed}, indent=2))
    return path


def test_training_the_adapter_is_assumed_and_said(tmp_path: Path) -> None:
    reading = read(adapter(tmp_path, lora_dropout=0.1, modules_to_save=["embed_tokens"], use_dora=True))
    assert reading.workload.adapter == Adapter(
        rank=16,
        targets=("q_proj", "v_proj"),
        dtype=Dtype.FP32,
        dropout=0.1,
        dora=True,
        modules_to_save=("embed_tokens",),
    )
    assert reading.workload.precision.params is Dtype.BF16
    assert any("assumed is training it" in warning for warning in reading.warnings)


def test_targets_nobody_names_are_pefts_own(tmp_path: Path) -> None:
    found = read(adapter(tmp_path, target_modules=None, r=None)).workload.adapter
    assert found == Adapter(rank=8, targets=("q_proj", "v_proj"), dtype=Dtype.FP32)


def test_a_base_nobody_names_comes_from_the_command_line(tmp_path: Path) -> None:
    path = adapter(tmp_path, base_model_name_or_path=None)
    with pytest.raises(FieldError, match="names no model") as caught:
        read(path)
    assert "--model" in str(caught.value)
    assert read(path, model=BASE).workload.adapter is not None


def test_another_kind_of_adapter_has_bounds_that_name_it(tmp_path: Path) -> None:
    found = estimate(read(adapter(tmp_path, peft_type="LOHA")).workload, None)
    assert any("loha adapters are not simulated" in gap.reason for gap in found.device.gaps)
    assert found.device.low < found.device.process < found.device.high


def test_settings_that_are_not_simulated_are_warned_about(tmp_path: Path) -> None:
    warnings = read(adapter(tmp_path, layers_to_transform=[0, 1], rank_pattern={"q_proj": 4})).warnings
    assert sum("adapter_config.json:" in warning for warning in warnings) == 2


def test_an_adapter_beside_a_models_config_is_trained_on_it(tmp_path: Path) -> None:
    adapter(tmp_path)
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 100,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    reading = read(tmp_path)
    assert reading.dialect == "hf_config"
    assert reading.workload.adapter is not None
    assert reading.workload.adapter.rank == 16


def test_a_run_keeps_its_own_adapter_and_a_finding_tells_of_the_other(tmp_path: Path) -> None:
    path = tmp_path / "train.yml"
    path.write_text(f"base_model: {BASE}\nadapter: lora\nlora_r: 8\n")
    reading = read(path, beside=[adapter(tmp_path)])
    assert reading.workload.adapter is not None
    assert reading.workload.adapter.rank == 8
    (found,) = reading.findings
    assert "r is 16 here but 8 at" in found.message


def test_nothing_is_written_to_an_adapters_config(tmp_path: Path) -> None:
    reading = read(adapter(tmp_path))
    written, advice = edits(reading, [("batch.micro", 1, 2)])
    assert written == ()
    assert "set this where the run is configured" in advice[0].message


def test_every_adapter_of_a_language_model_in_the_corpus_is_read(corpus: Path) -> None:
    entries = json.loads((corpus / "manifest.json").read_text())
    paths = [corpus / item["file"] for item in entries if item["dialect"] == "peft_adapter"]
    for path in paths:
        try:
            assert read(path, model="meta-llama/Llama-3.2-3B").dialect == "peft_adapter"
        except InputError as error:
            assert error.location is not None
            assert "image-gen" in path.parts
    assert len(paths) >= 30
