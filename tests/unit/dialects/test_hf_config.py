"""Hugging Face config.json: a model, and a run that is assumed and said to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.errors import MemplanError
from memplan.domain.workload import Task
from memplan.read import read

LLAMA = Path(__file__).parents[3] / "examples" / "llama-3.1-8b"

TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 256,
}


def config(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY | changes))
    return path


def test_a_model_directory_is_a_full_training_run_that_was_assumed() -> None:
    reading = read(LLAMA)
    work = reading.workload
    assert reading.dialect == "hf_config"
    assert isinstance(work.model, Architecture)
    assert (work.task, work.batch.micro, work.sequence.length) == (Task.TRAIN, 1, 2048)
    assert (work.precision.params, work.precision.autocast) == (Dtype.BF16, None)
    assert work.adapter is None
    assert reading.origins["batch.micro"].how == "assumed"
    assert reading.origins["precision.params"].how == "written"
    (warning,) = reading.warnings
    assert "a model, not a run" in warning


def test_the_sequence_is_no_longer_than_the_model_takes(tmp_path: Path) -> None:
    assert read(config(tmp_path)).workload.sequence.length == 256


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({"torch_dtype": "float16"}, Dtype.FP16),
        ({"torch_dtype": "float16", "dtype": "float32"}, Dtype.FP32),
        ({"dtype": "auto", "torch_dtype": "bfloat16"}, Dtype.BF16),
        ({}, Dtype.BF16),
    ],
)
def test_dtype_wins_over_torch_dtype(tmp_path: Path, changes: dict[str, object], dtype: Dtype) -> None:
    assert read(config(tmp_path, **changes)).workload.precision.params is dtype


def test_nothing_is_ever_written_to_a_model(tmp_path: Path) -> None:
    reading = read(config(tmp_path))
    written, advice = edits(reading, [("batch.micro", 1, 2), ("sequence.length", 256, 128)])
    assert written == ()
    assert [item.field for item in advice] == ["batch.micro", "sequence.length"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "xlstm", "vocab_size": None}, "xlstm"),
        ({"hidden_size": -64}, "hidden_size"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"dtype": "float3"}, "float3"),
        ({"dtype": 16}, "dtype"),
    ],
)
def test_a_wrong_field_is_an_error_at_its_line(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(MemplanError) as caught:
        read(config(tmp_path, **changes))
    assert words in caught.value.message
    assert caught.value.location is not None
