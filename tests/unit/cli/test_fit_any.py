"""``memplan fit --gpu any``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan import profiles
from memplan.cli import main

KEPT = (
    "loss",
    "optimizer",
    "allocator",
    "checkpointing",
    "attention",
    "activation_offload",
    "kernels",
    "batch",
)
CONFIG = "memplan: 1\nmodel: {ref: %s}\nbatch: {micro: 1}\nsequence: {length: 256}\n"
NAMES = ("t4", "rtx3060", "rtx3050-laptop")


@pytest.fixture
def few_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    some = tuple(profiles.gpu(name) for name in NAMES)
    monkeypatch.setattr(profiles, "gpus", lambda: some)


def fit(folder: Path, *arguments: str, model: str = "HuggingFaceTB/SmolLM2-135M") -> int:
    path = folder / "train.yaml"
    path.write_text(CONFIG % model, encoding="utf-8")
    kept = [part for name in KEPT for part in ("--keep", name)]
    return main(["fit", str(path), "--gpu", "any", *kept, *arguments])


@pytest.mark.usefixtures("few_gpus")
def test_json_has_every_gpu_with_its_standing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "memplan.any/1"
    standings = {entry["gpu"]: entry["standing"] for entry in found["gpus"]}
    assert standings == {"rtx3050-laptop": "fits", "rtx3060": "fits", "t4": "lacks"}
    assert [entry["gpu"] for entry in found["gpus"]] == ["rtx3050-laptop", "rtx3060", "t4"]
    assert max(entry["speed"] for entry in found["gpus"]) == 1.0


@pytest.mark.usefixtures("few_gpus")
@pytest.mark.parametrize("form", ["terminal", "markdown"])
def test_people_see_where_it_fits_and_what_the_others_lack(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, "--format", form) == 0
    text = capsys.readouterr().out
    assert "fits on 2 of 3 GPUs" in text
    assert "Without what the config asks for" in text


@pytest.mark.usefixtures("few_gpus")
def test_a_run_that_fits_nowhere_says_by_how_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, model="meta-llama/Llama-3.1-8B") == 1
    text = capsys.readouterr().out
    assert "fits on 0 of 3 GPUs" in text
    assert "rtx3060 (12.0 GiB): misses by" in text


@pytest.mark.parametrize("option", [["--out", "plan.yaml"], ["--all"]])
def test_what_needs_one_gpu_is_refused(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, *option) == 2
    assert "need one GPU" in capsys.readouterr().err


def test_several_gpus_of_each_kind_can_be_asked_for(
    few_gpus: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path, "--gpus", "2", "--keep", "world") == 0
    assert "GPUs, 2 of them" in capsys.readouterr().out


def test_other_commands_say_that_one_gpu_has_to_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG % "HuggingFaceTB/SmolLM2-135M", encoding="utf-8")
    assert main(["estimate", str(path), "--gpu", "any"]) == 2
    assert "--gpu any is for memplan fit" in capsys.readouterr().err
