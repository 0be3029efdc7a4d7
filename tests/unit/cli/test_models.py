from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from memplan import profiles
from memplan.cli import main
from memplan.domain.errors import UnknownNameError
from memplan.profiles.search import search

SHARED = Path(os.environ.get("MEMPLAN_SHARED") or Path(__file__).resolve().parents[3].parent / "shared")


def test_a_word_finds_models_with_their_size_depth_and_context(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "LLAMA-3.2-1b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.split()[:1] == ["meta-llama/Llama-3.2-1B"]]
    assert row.split()[1:] == ["1.24", "B", "16", "131072", "llama"]


def test_several_words_have_to_be_there_in_any_order() -> None:
    assert {item.id for item in search("7b math qwen2.5")} == {
        "Qwen/Qwen2.5-Math-7B",
        "Qwen/Qwen2.5-Math-7B-Instruct",
    }


def test_every_model_is_listed_without_a_word() -> None:
    assert {item.id for item in search("")} == set(profiles.model_ids())


def test_a_word_that_no_id_holds_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "qwen/qwen2.5-7b-instrct"]) == 2
    assert "did you mean qwen/qwen2.5-7b-instruct" in capsys.readouterr().err.lower()
    with pytest.raises(UnknownNameError, match="zzz"):
        search("zzz")


def test_a_model_that_is_not_simulated_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "starcoder2-3b", "--format", "json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["schema"] == "memplan.models/1"
    assert [(item["id"], item["simulated"], item["layers"]) for item in payload["models"]] == [
        ("bigcode/starcoder2-3b", False, 30)
    ]
    assert main(["models", "starcoder2-3b"]) == 0
    assert "starcoder2 (bounds only)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/tmp/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("checkpoints/meta-llama/Llama-3.2-1B/", "meta-llama/Llama-3.2-1B"),
        ("C:\\models\\microsoft\\phi-2", "microsoft/phi-2"),
        ("./output", None),
        ("", None),
        ("///", None),
    ],
)
def test_a_folder_is_known_by_the_name_of_its_model(folder: str, expected: str | None) -> None:
    assert profiles.model_named_like(folder) == expected


def test_a_quantized_copy_has_the_weights_of_its_model_and_says_how_they_are_packed() -> None:
    copy, plain = profiles.model("unsloth/llama-3-8b-bnb-4bit"), profiles.model("meta-llama/Meta-Llama-3-8B")
    assert copy is not None
    assert plain is not None
    assert copy.parameters == plain.parameters
    packed = copy.config["quantization_config"]
    assert {**copy.config} == {**plain.config, "quantization_config": packed}
    unpacked = profiles.model("axolotl-ai-co/gpt-oss-120b-dequantized")
    assert unpacked is not None
    assert "quantization_config" not in unpacked.config


def test_most_models_that_axolotl_examples_name_are_known() -> None:
    folder = SHARED / "corpus" / "axolotl-ai-cloud+axolotl"
    if not folder.is_dir():
        pytest.skip("the corpus is not at hand")
    named = {
        found[1]
        for path in folder.glob("examples/**/*.y*ml")
        if (found := re.search(r"(?m)^base_model: *([\w.-]+/[\w.-]+) *$", path.read_text(encoding="utf-8")))
    }
    unknown = {hub_id for hub_id in named if profiles.model(hub_id) is None}
    assert len(unknown) <= len(named) // 4, sorted(unknown)
