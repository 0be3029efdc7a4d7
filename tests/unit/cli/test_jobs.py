"""Jobs of several files at the console: read together, rewritten together or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan.cli import main

TRAIN = """\
base_model: meta-llama/Llama-3.2-1B
sequence_len: 2048
micro_batch_size: 8  # fast
gradient_accumulation_steps: 2
adapter: lora
lora_r: 16
lora_target_linear: true
bf16: true
deepspeed: zero2.json
"""
ZERO = {
    "zero_optimization": {"stage": 2, "contiguous_gradients": True},
    "train_micro_batch_size_per_gpu": 8,
    "gradient_accumulation_steps": "auto",
    "bf16": {"enabled": "auto"},
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "train.yml").write_text(TRAIN)
    (tmp_path / "zero2.json").write_text(json.dumps(ZERO, indent=4))
    return tmp_path


def estimated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["estimate", *arguments, "--format", "json"]) in (0, 1, 3)
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_a_launcher_is_named_with_an_option(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / "launch.yaml").write_text("distributed_type: DEEPSPEED\nnum_processes: 4\n")
    found = estimated(capsys, str(job / "train.yml"), "--with", str(job / "launch.yaml"))
    workload = found["workload"]
    assert isinstance(workload, dict)
    assert (workload["world"]["data_parallel"], workload["world"]["sharding"]) == (4, "zero2")


def test_a_model_is_named_with_an_option(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = estimated(capsys, str(job / "zero2.json"), "--model", "meta-llama/Llama-3.2-1B", "--gpus", "2")
    assert found["dialect"] == "deepspeed"


def test_without_a_model_the_way_out_is_said(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", str(job / "zero2.json")]) == 2
    assert "--model ID|DIR" in capsys.readouterr().err


def test_a_smaller_micro_batch_is_written_into_both_files(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(job / "train.yml"), "--gpu", "rtx3090", "--gpus", "2"]
    assert main(["apply", *arguments, "--keep", "checkpointing", "--keep", "attention"]) == 0
    capsys.readouterr()
    text = (job / "train.yml").read_text()
    config = json.loads((job / "zero2.json").read_text())
    micro = config["train_micro_batch_size_per_gpu"]
    assert micro < 8
    assert f"micro_batch_size: {micro}  # fast" in text
    assert f"gradient_accumulation_steps: {16 // micro}\n" in text
    assert config["gradient_accumulation_steps"] == "auto"
    assert main(["estimate", *arguments]) == 0


def test_a_saved_plan_remembers_the_other_files_of_its_job(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (job / "launch.yaml").write_text("distributed_type: DEEPSPEED\nnum_processes: 2\n")
    beside = ["--with", str(job / "launch.yaml")]
    plan = job / "plan.yaml"
    arguments = [str(job / "train.yml"), "--gpu", "rtx3090", *beside, "--keep", "checkpointing"]
    assert main(["fit", *arguments, "--out", str(plan)]) == 0
    assert main(["apply", "--plan", str(plan)]) == 0
    capsys.readouterr()
    config = json.loads((job / "zero2.json").read_text())
    assert f"micro_batch_size: {config['train_micro_batch_size_per_gpu']} " in (job / "train.yml").read_text()


def test_a_file_that_cannot_be_edited_leaves_all_as_they_were(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = json.dumps(ZERO)[:-1] + ', "train_micro_batch_size_per_gpu": 8}'
    (job / "zero2.json").write_text(twice)
    arguments = [str(job / "train.yml"), "--gpu", "rtx3090", "--keep", "checkpointing"]
    assert main(["apply", *arguments]) == 2
    assert "nothing was written" in capsys.readouterr().err
    assert (job / "train.yml").read_text() == TRAIN
    assert (job / "zero2.json").read_text() == twice


def test_contradictions_are_shown_and_fail_the_gate(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / "zero2.json").write_text(json.dumps({**ZERO, "train_micro_batch_size_per_gpu": 4}))
    assert main(["estimate", str(job / "train.yml")]) == 0
    assert "train_micro_batch_size_per_gpu is 4 here but 8 at" in " ".join(capsys.readouterr().out.split())
    assert main(["check", str(job / "train.yml"), "--gpu", "h100-sxm"]) == 1
    assert "MP006" in capsys.readouterr().out


def test_the_gate_takes_the_other_files_too_and_a_rewrite_says_so(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = job / "launch.yaml"
    launcher.write_text("distributed_type: DEEPSPEED\nnum_processes: 2\n")
    arguments = [str(job / "train.yml"), "--gpu", "h100-sxm", "--with", str(launcher)]
    assert main(["check", *arguments]) == 0
    capsys.readouterr()
    assert main(["apply", *arguments[:1], "--gpu", "rtx3090", *arguments[3:], "--gpus", "2"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--gpus 2 --with" in said
