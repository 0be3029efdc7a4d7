from __future__ import annotations

import importlib.util
import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from memplan.cli import main
from memplan.smoke import libraries

CONFIG = """\
memplan: 1
task: {task}
model:
  config: {{model_type: llama, hidden_size: 64, intermediate_size: 160, num_hidden_layers: 2,
            num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 500}}
sequence: {{length: 64}}
"""


def written(folder: Path, task: str = "train") -> str:
    path = folder / "run.yaml"
    path.write_text(CONFIG.format(task=task), encoding="utf-8")
    return str(path)


def test_without_torch_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(libraries, "version", absent)
    assert main(["smoke", written(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a smoke test needs torch and transformers" in captured.err
    assert "pip install 'memplan[smoke]'" in captured.err


def test_what_cannot_be_traced_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", written(tmp_path), "--set", "optimizer.name=lion"]) == 2
    assert "its optimizer is lion" in capsys.readouterr().err
    assert main(["smoke", written(tmp_path), "--set", "quantization={kind: nf4}"]) == 2
    assert "its weights are stored as nf4" in capsys.readouterr().err
    assert main(["smoke", written(tmp_path), "--set", "kernels.liger=[rope]"]) == 2
    assert "its kernels are Liger's" in capsys.readouterr().err


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")),
    reason="torch or transformers is not installed: pip install 'memplan[smoke]'",
)
def test_prediction_and_trace_are_compared_under_the_same_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["smoke", written(tmp_path), "--device", "fake", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "memplan.smoke/1"
    assert (found["device"], found["passed"]) == ("fake", True)
    assert set(found["predicted"]) == set(found["measured"]) == set(found["error"])
    assert set(found["measured"]["phases"]) == {"load", "forward", "loss", "backward", "optimizer"}
    assert found["measured"]["components"]["embeddings"] == 500 * 64 * 2
    assert set(found["error"]["components"].values()) == {0.0}
    assert main(["smoke", written(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "as predicted" in text
    assert "optimizer_state" in text


REAL = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")),
    reason="torch or transformers is not installed: pip install 'memplan[smoke]'",
)
FP32 = ("--set", "precision.params=fp32")


@REAL
def test_a_real_run_has_the_same_keys_on_both_sides_and_resident_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["smoke", written(tmp_path), "--device", "cpu", "--steps", "1", "--format", "json", *FP32]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["device"], found["passed"]) == ("memplan.smoke/1", "cpu", True)
    for part in ("predicted", "measured", "error"):
        assert set(found[part]) == {"peak_allocated", "rss", "phases", "resident", "components"}
        assert set(found[part]["phases"]) == {"load", "forward", "loss", "backward", "optimizer"}
    assert found["shortage"] is None


@REAL
def test_a_run_beyond_its_cap_says_what_it_dies_of_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path)
    assert main(["smoke", config, "--device", "cpu", "--steps", "1", "--cap", "1MiB", *FP32]) == 1
    text = capsys.readouterr().out
    assert "out of memory, as predicted" in text
    assert "alive when it died" in text
    assert "  resident  " not in text


@REAL
def test_generation_is_run_by_phases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = written(tmp_path, task="generate")
    small = ("--set", "generate.prompt=32", "--set", "generate.new_tokens=3", *FP32)
    assert main(["smoke", config, "--device", "cpu", "--steps", "1", *small, "--format", "json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["measured"]["phases"]) == {"load", "prefill", "decode"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cap", "1GiB"], "are for real runs"),
        (["--device", "cpu", "--scaled", "--cap", "1GiB"], "leave out --scaled"),
        (["--device", "cpu", "--cap", "much"], "--cap"),
        (["--device", "cpu", "--steps", "0"], "--steps"),
        (["--device", "tpu"], "--device"),
    ],
)
def test_options_that_do_not_go_together_are_bad_input(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["smoke", written(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err


@REAL
def test_a_plan_is_run_as_it_was_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path)
    plan = ["fit", "run.yaml", "--gpu", "t4", "--set", "sequence.length=32", "--out", "plan.yaml"]
    assert main([*plan, *FP32]) == 0
    capsys.readouterr()
    arguments = ["--device", "cpu", "--steps", "1", "--format", "json"]
    assert main(["smoke", "plan.yaml", *arguments]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert main(["smoke", "run.yaml", "--set", "sequence.length=32", *FP32, *arguments]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert planned["predicted"]["phases"] == plain["predicted"]["phases"]
    assert main(["smoke", "plan.yaml", "--set", "batch.micro=2"]) == 2
    assert "is a plan" in capsys.readouterr().err


@REAL
def test_the_gate_traces_the_real_classes_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", written(tmp_path), "--gpu", "rtx3090", "--smoke"]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert main(["check", written(tmp_path, task="generate"), "--gpu", "rtx3090", "--smoke"]) == 0
    assert "nothing found" in capsys.readouterr().out
    quantized = tmp_path / "quantized.yaml"
    quantized.write_text(
        Path(written(tmp_path)).read_text(encoding="utf-8") + "quantization: {kind: nf4}\n", encoding="utf-8"
    )
    assert main(["check", str(quantized), "--gpu", "rtx3090", "--smoke"]) == 0
    assert "MP010" in capsys.readouterr().out


def test_the_gate_asks_for_the_libraries_before_it_says_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(libraries, "version", absent)
    assert main(["check", written(tmp_path), "--gpu", "rtx3090", "--smoke"]) == 2
    assert "needs torch and transformers" in capsys.readouterr().err
