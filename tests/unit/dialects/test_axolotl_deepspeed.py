"""DeepSpeed's settings in an axolotl file, or in the JSON it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError
from memplan.domain.zero import Place, Zero
from tests.unit.dialects.test_axolotl import axolotl

AUTO = {
    "stage": 3,
    "reduce_bucket_size": "auto",
    "stage3_prefetch_bucket_size": "auto",
    "stage3_param_persistence_threshold": "auto",
    "sub_group_size": 0,
    "stage3_max_live_parameters": 1e9,
    "stage3_gather_16bit_weights_on_model_save": True,
}


def written(folder: Path, settings: dict[str, Any], **others: Any) -> str:
    """A file with these settings, and the key that names it."""
    (folder / "zero.json").write_text(json.dumps({"zero_optimization": settings, **others}))
    return "deepspeed: zero.json"


def test_auto_sizes_follow_the_width_of_the_model(tmp_path: Path) -> None:
    reading = axolotl(tmp_path, written(tmp_path, AUTO))
    width = reading.workload.at("model.hidden_size")
    assert reading.workload.world.zero == Zero(
        reduce_bucket=width**2, prefetch_bucket=int(0.9 * width**2), persistence=10 * width, sub_group=0
    )
    assert reading.origins["world.zero.reduce_bucket"].how == "written"
    assert reading.origins["world.zero.max_reuse"].how == "default"
    assert not [warning for warning in reading.warnings if "not modelled" in warning]


def test_what_deepspeed_offloads_and_overlaps_is_read(tmp_path: Path) -> None:
    settings = {
        "stage": 2,
        "overlap_comm": True,
        "offload_optimizer": {"device": "cpu", "pin_memory": False},
        "reduce_bucket_size": 2e8,
    }
    reading = axolotl(tmp_path, written(tmp_path, settings, communication_data_type="fp32"))
    assert reading.workload.world.zero == Zero(
        reduce_bucket=200_000_000,
        overlap=True,
        optimizer=Place.CPU,
        pinned=False,
        communication=Dtype.FP32,
    )


def test_deepspeed_runs_without_autocast_and_turns_adapters_to_the_models_dtype(tmp_path: Path) -> None:
    text = written(tmp_path, {"stage": 2}) + "\nadapter: lora\nlora_target_linear: true\nbf16: true"
    workload = axolotl(tmp_path, text).workload
    assert workload.precision.autocast is None
    assert workload.adapter is not None
    assert workload.adapter.dtype is workload.precision.params is Dtype.BF16


def test_an_unknown_setting_is_named_with_its_place(tmp_path: Path) -> None:
    reading = axolotl(tmp_path, written(tmp_path, {"stage": 2, "zero_quantized_weights": True}))
    named = [warning for warning in reading.warnings if "zero_quantized_weights" in warning]
    assert named
    assert "zero.json:1" in named[0]


@pytest.mark.parametrize("value", [-1, "many", 0.5, True])
def test_a_size_that_is_none_is_a_located_error(tmp_path: Path, value: Any) -> None:
    with pytest.raises(FieldError) as caught:
        axolotl(tmp_path, written(tmp_path, {"stage": 2, "reduce_bucket_size": value}))
    assert caught.value.location is not None
