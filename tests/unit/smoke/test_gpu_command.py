"""``memplan smoke --device cuda`` from the command line to the report, on a GPU that is none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memplan import profiles
from memplan.cli import main
from memplan.domain.allocator import VARIABLE
from memplan.read import read
from tests.oracle.libraries import library

library("torch")
library("transformers")

from memplan.smoke.gpu import driver as seam  # noqa: E402
from tests.unit.smoke.fake_gpu import FakeGpu  # noqa: E402

CONFIG = """\
memplan: 1
task: train
model:
  config: {model_type: llama, hidden_size: 64, intermediate_size: 160, num_hidden_layers: 2,
            num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 500}
precision: {params: fp16}
sequence: {length: 256}
allocator: {max_split_size_mb: 64}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A config, and an A100 that runs it."""
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    workload = read(str(path)).workload
    monkeypatch.setattr(seam, "Cuda", lambda: FakeGpu(workload, profiles.target("a100-80gb")))
    # The command sets it for its own process; here that is also everybody else's.
    monkeypatch.setenv(VARIABLE, "max_split_size_mb:64")
    yield path
    assert os.environ[VARIABLE] == "max_split_size_mb:64"


def found(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_prediction_and_counters_come_under_the_same_keys(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["smoke", str(config), "--device", "cuda", "--steps", "2", "--format", "json"]) == 0
    report = found(capsys)
    assert (report["schema"], report["device"], report["passed"]) == ("memplan.smoke/1", "cuda", True)
    assert set(report["predicted"]) == set(report["measured"]) == set(report["error"])
    assert report["error"]["peak_allocated"] == report["error"]["peak_reserved"] == 0
    assert report["measured"]["process"] > report["measured"]["peak_reserved"]
    assert report["shortage"] is None


def test_a_run_that_dies_is_explained_and_leaves_its_snapshot(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = tmp_path / "out.pickle"
    command = ["smoke", str(config), "--device", "cuda", "--gpu", "gtx1650", "--steps", "2"]
    assert main([*command, "--cap", "12MiB", "--snapshot", str(snapshot)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "out of memory, as predicted" in text
    assert "12.0 MiB in use" in text
    assert "alive when it died" in text
    assert "gtx1650 emulated on a100-80g" in text
    assert snapshot.stat().st_size > 0


def test_a_card_that_lacks_what_is_asked_for_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["smoke", str(config), "--device", "cuda", "--set", "precision.params=bf16"]
    assert main([*command, "--gpu", "gtx1650"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "gtx1650 has no bf16 (precision.params)" in captured.err


def test_a_snapshot_is_of_a_gpu(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", str(config), "--device", "cpu", "--snapshot", "out.pickle"]) == 2
    assert "--snapshot is for --device cuda" in capsys.readouterr().err
