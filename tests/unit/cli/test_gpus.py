from __future__ import annotations

import json

import pytest

from memplan import profiles
from memplan.cli import main


def test_the_list_has_every_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus"]) == 0
    text = capsys.readouterr().out
    assert [gpu.name for gpu in profiles.gpus() if gpu.name not in text] == []


def test_one_gpu_is_shown_with_sources_and_its_named_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus", "show", "NVIDIA GeForce GTX 1650"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("gtx1650: NVIDIA GeForce GTX 1650\n")
    for word in ("3.82 GiB", "no FlashAttention-2", "ultra-conservative", "balanced", "aggressive"):
        assert word in text


def test_json_carries_whole_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus", "show", "gtx1650", "--format", "json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["schema"] == "memplan.gpus/1"
    assert payload["gpus"][0]["capacity"] == 4096 * 2**20
    assert payload["gpus"][0]["tflops"]["fp32"] > 0


def test_profiles_lists_named_profiles_and_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "--format", "json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert {item["name"] for item in payload["named"]} == {"ultra-conservative", "balanced", "aggressive"}
    assert "meta-llama/Llama-3.2-1B" in payload["models"]


def test_the_shipped_profiles_are_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "--check"]) == 0
    assert "all valid" in capsys.readouterr().out
