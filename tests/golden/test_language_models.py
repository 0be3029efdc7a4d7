"""Language models: a model directory, a LoRA run that can be made to fit, and a run that cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memplan.cli import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COMPONENTS = {
    "embeddings", "decoder_matrix", "blocks", "adapter", "gradients", "optimizer_state", "kv_cache",
    "activations", "logits_and_loss", "temporaries", "workspace",
}  # fmt: skip

Answer = Callable[..., tuple[int, Any]]


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answer:
    """Run a command with ``--format json`` beside copies of the examples: exit code and payload."""
    for name in ("llama-3.1-8b", "axolotl-lora"):
        shutil.copytree(EXAMPLES / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, Any]:
        code = main([*arguments, "--format", "json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def sizes(estimate: Any) -> dict[str, int]:
    return {part["name"]: part["bytes"] for part in estimate["device"]["components"]}


def test_full_training_of_8b_names_every_component(answer: Answer) -> None:
    code, payload = answer("estimate", "llama-3.1-8b", "--gpu", "rtx3090")
    assert code == 1
    found = sizes(payload)
    assert set(found) >= COMPONENTS
    assert found["embeddings"] == found["decoder_matrix"] == 128256 * 4096 * 2
    weights = found["embeddings"] + found["decoder_matrix"] + found["blocks"]
    assert 0 <= weights - 8_030_261_248 * 2 <= 4096, "weights, and the rotary embedding's small buffers"
    assert found["optimizer_state"] == pytest.approx(2 * 2 * 8_030_261_248, rel=0.001)
    assert found["kv_cache"] == 0
    assert found["adapter"] == 0


def test_components_at_the_peak_sum_to_the_peak(answer: Answer) -> None:
    for path in ("llama-3.1-8b", "axolotl-lora"):
        _, payload = answer("estimate", path, "--gpu", "rtx3090")
        device = payload["device"]
        assert sum(sizes(payload).values()) == device["peak_allocated"]
        assert device["peak_allocated"] == max(device["phases"].values())
        assert device["peak_allocated"] <= device["peak_reserved"] <= device["process"]
        assert device["low"] <= device["process"] <= device["high"]


def test_a_lora_run_is_fitted_with_exact_changes_only_and_then_fits(answer: Answer) -> None:
    code, plan = answer("fit", "axolotl-lora", "--gpu", "rtx3090")
    assert (code, plan["feasible"], plan["harm"]) == (0, True, "exact")
    assert {change["field"] for change in plan["changes"]} <= {
        "batch.micro", "batch.accumulation", "checkpointing",
    }  # fmt: skip
    batch = plan["after"]["workload"]["batch"]
    assert batch["micro"] * batch["accumulation"] == 16

    before = Path("axolotl-lora/config.yml").read_text(encoding="utf-8").splitlines()
    code, _ = answer("apply", "axolotl-lora", "--gpu", "rtx3090")
    assert code == 0
    after = Path("axolotl-lora/config.yml").read_text(encoding="utf-8").splitlines()
    changed = [number for number, pair in enumerate(zip(before, after, strict=True), 1) if len({*pair}) > 1]
    assert changed == sorted(edit["line"] for edit in plan["edits"])

    code, payload = answer("estimate", "axolotl-lora", "--gpu", "rtx3090")
    assert (code, payload["verdict"]) == (0, "fits")
    assert payload["workload"] == plan["after"]["workload"]


def test_a_margin_is_kept_free(answer: Answer) -> None:
    code, plan = answer("fit", "axolotl-lora", "--gpu", "rtx3090", "--margin", "45%")
    assert (code, plan["feasible"]) == (0, True)
    target = plan["after"]["target"]
    assert target["usable"] - plan["after"]["device"]["high"] >= plan["margin"] >= 0.45 * target["usable"] - 1


def test_a_kept_field_stays(answer: Answer) -> None:
    code, plan = answer("fit", "axolotl-lora", "--gpu", "rtx3090", "--keep", "batch")
    fields = {change["field"] for change in plan["changes"]}
    assert not fields & {"batch.micro", "batch.accumulation"}
    assert code in (0, 1)


def test_full_training_of_8b_on_a_gtx_1650_is_an_answer_and_not_an_error(answer: Answer) -> None:
    code, plan = answer("fit", "llama-3.1-8b", "--gpu", "gtx1650")
    assert (code, plan["feasible"]) == (1, False)
    assert plan["blocking"] in COMPONENTS
    assert "behaviour" in plan["offer"]
    assert plan["after"]["device"]["process"] < plan["before"]["device"]["process"]


def test_an_override_plans_with_another_value_than_the_files(answer: Answer) -> None:
    _, short = answer("estimate", "axolotl-lora", "--gpu", "rtx3090", "--set", "sequence.length=512")
    _, full = answer("estimate", "axolotl-lora", "--gpu", "rtx3090")
    assert short["workload"]["sequence"]["length"] == 512
    assert short["device"]["process"] < full["device"]["process"]
