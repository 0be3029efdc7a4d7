"""``--gpus``: how many GPUs a run is spread over, where its config does not say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan.cli import main

CONFIG = """memplan: 1
model: {ref: meta-llama/Llama-3.2-1B}
world: {sharding: fsdp2}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return str(path)


def process(capsys: pytest.CaptureFixture[str], *arguments: str) -> int:
    assert main(["estimate", *arguments, "--format", "json"]) == 0
    found: int = json.loads(capsys.readouterr().out)["device"]["process"]
    return found


def test_figures_are_those_of_one_gpu_of_several(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    alone, four = process(capsys, config), process(capsys, config, "--gpus", "4")
    assert four < alone
    assert process(capsys, config, "--set", "world.data_parallel=4") == four
    assert main(["estimate", config, "--gpus", "4"]) == 0
    text = capsys.readouterr().out
    assert "of GPU memory on each of 4 GPUs" in text
    assert "give --gpus N" not in text


def test_sharding_over_nobody_says_how_many_gpus_is_warned_about(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", config]) == 0
    assert "nothing says over how many GPUs; counted as 1, give --gpus N" in capsys.readouterr().out


def test_the_gate_counts_the_gpus_too(config: str) -> None:
    assert main(["check", config, "--gpu", "12GiB"]) != 0
    assert main(["check", config, "--gpu", "12GiB", "--gpus", "16"]) == 0


@pytest.mark.parametrize("command", ["estimate", "fit", "check", "explain"])
def test_no_gpus_are_bad_input(command: str, config: str) -> None:
    assert main([command, config, "--gpus", "0"]) == 2
