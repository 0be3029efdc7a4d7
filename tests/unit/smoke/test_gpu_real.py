"""Real runs on the GPU of this machine: allocated within 0.3 %, reserved within 2 %."""

from __future__ import annotations

import functools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memplan.smoke.gpu.kernels import PLAIN

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

SHAPES = {
    "llama": "model_type: llama, hidden_size: 1024, intermediate_size: 2816, num_hidden_layers: 6,"
    " num_attention_heads: 16, num_key_value_heads: 8, vocab_size: 32000",
    "gpt2": "model_type: gpt2, n_embd: 768, n_layer: 6, n_head: 12, vocab_size: 50257, n_positions: 1024",
    "qwen3": "model_type: qwen3, hidden_size: 1024, intermediate_size: 3072, num_hidden_layers: 6,"
    " num_attention_heads: 16, num_key_value_heads: 8, head_dim: 64, vocab_size: 32000",
}
SETTINGS = {
    "full": "precision: {params: fp16}",
    "autocast": "precision: {params: fp32, autocast: fp16}",
    "lora checkpointed": "precision: {params: fp16}\nadapter: {kind: lora, rank: 16}\ncheckpointing: full",
    "eager accumulated": "precision: {params: fp16}\nattention: eager\nbatch: {micro: 2, accumulation: 2}",
    "sgd": "precision: {params: fp16}\noptimizer: {name: sgd, momentum: 0.9}",
    "expandable": "precision: {params: fp16}\nallocator: {expandable_segments: true}",
}


@functools.cache
def absent() -> str | None:
    """Why there is nothing to run on; asked in a process of its own, so that this one has no CUDA context."""
    asked = [sys.executable, "-c", "import torch; assert torch.cuda.is_available()"]
    return "PyTorch sees no GPU here" if subprocess.run(asked, capture_output=True).returncode else None


@pytest.fixture(autouse=True)
def gpu() -> None:
    reason = absent()
    if reason is not None:
        pytest.skip(reason)


def smoked(folder: Path, shape: str, settings: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report; every run has a process, since settings hold from CUDA's start on."""
    path = folder / "run.yaml"
    text = f"memplan: 1\ntask: train\nmodel:\n  config: {{{shape}}}\nsequence: {{length: 512}}\n{settings}\n"
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "memplan", "smoke", str(path), "--device", "cuda", "--format", "json"]
    # cuDNN's attention kernel, which newer releases prefer on some cards, is not simulated.
    environment = {**os.environ, PLAIN: "1"}
    run = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=environment)
    assert run.stdout, run.stderr
    return run.returncode, json.loads(run.stdout)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_real_run_takes_what_is_predicted(tmp_path: Path, shape: str, settings: str) -> None:
    code, report = smoked(tmp_path, SHAPES[shape], SETTINGS[settings])
    assert (code, report["error"]["peak_allocated"], report["error"]["peak_reserved"]) == (
        0,
        pytest.approx(0, abs=0.3),
        pytest.approx(0, abs=2),
    )


def test_a_limit_below_the_peak_kills_and_one_above_does_not(tmp_path: Path) -> None:
    shape, settings = SHAPES["llama"], SETTINGS["full"]
    _, whole = smoked(tmp_path, shape, settings)
    reserved, allocated = (whole["predicted"][name] for name in ("peak_reserved", "peak_allocated"))
    snapshot = tmp_path / "out.pickle"
    code, enough = smoked(tmp_path, shape, settings, "--cap", f"{reserved * 102 // 100}B")
    assert (code, enough["shortage"]) == (0, None)
    code, short = smoked(
        tmp_path, shape, settings, "--cap", f"{allocated * 98 // 100}B", "--snapshot", str(snapshot)
    )
    assert code == 1
    assert short["shortage"]["foreseen"]
    assert short["shortage"]["alive"]["blocks"] == short["shortage"]["predicted"]["blocks"]
    traces = pickle.loads(snapshot.read_bytes())["device_traces"]
    assert any(entry["action"] == "oom" for trace in traces for entry in trace)


def test_a_gtx1650_is_emulated(tmp_path: Path) -> None:
    code, report = smoked(tmp_path, SHAPES["llama"], SETTINGS["full"], "--gpu", "gtx1650")
    assert (code, report["shortage"]) == (0, None)
    assert any(note.startswith("gtx1650 emulated on") for note in report["notes"])


def test_declared_tensors_are_as_large_as_predicted_and_die_on_a_smaller_card(tmp_path: Path) -> None:
    path = tmp_path / "memplan.yaml"
    path.write_text(
        "memplan: 1\nmodel:\n  tensors:\n    table: {shape: [rows, 100], dtype: fp16}\n"
        "    state: {bytes: 300MB, role: buffer}\n  values: {rows: 333333}\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "memplan", "smoke", str(path), "--device", "cuda", "--format", "json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert (found["error"]["peak_allocated"], found["error"]["peak_reserved"]) == (0.0, 0.0)
    more = ["--gpu", "gtx1650", "--set", "rows=20000000"]
    run = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert json.loads(run.stdout)["shortage"]["foreseen"]
