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
    assert main(["smoke", written(tmp_path, task="generate")]) == 2
    assert "its task is generate" in capsys.readouterr().err
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
