"""Real ranks on gloo: parameters, gradients and states of each are predicted to the byte."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memplan.cli import main
from memplan.domain.errors import InputError
from memplan.domain.workload import Evaluation, Optimizer, Quantization, Task, Workload, World
from memplan.domain.zero import Place, Zero
from memplan.families import architecture
from memplan.smoke.ranks import limits
from memplan.smoke.ranks.limits import refuse

needs_torch = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")),
    reason="torch or transformers is not installed: pip install 'memplan[smoke]'",
)

CONFIG = """\
memplan: 1
model:
  config: {{model_type: llama, hidden_size: 64, intermediate_size: 160, num_hidden_layers: 2,
            num_attention_heads: 4, num_key_value_heads: 2, vocab_size: {words}}}
precision: {{params: fp32}}
sequence: {{length: 32}}
batch: {{micro: 2, accumulation: {accumulation}}}
attention: eager
world: {{sharding: {sharding}, data_parallel: {ranks}}}
"""


def smoked(
    folder: Path, capsys: pytest.CaptureFixture[str], *options: str, **settings: Any
) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of a run."""
    path = folder / "run.yaml"
    given = {"words": 500, "accumulation": 1, "sharding": "none", "ranks": 2} | settings
    path.write_text(CONFIG.format(**given), encoding="utf-8")
    code = main(["smoke", str(path), "--device", "cpu", "--format", "json", *options])
    captured = capsys.readouterr()
    assert code < 2, captured.err
    return code, json.loads(captured.out)


def check(found: dict[str, Any], ranks: int) -> list[dict[str, Any]]:
    """Everything exact, all keys alike; returns what was measured."""
    assert found["schema"] == "memplan.smoke/1"
    assert found["device"] == "cpu"
    assert [rank["rank"] for rank in found["ranks"]] == list(range(ranks))
    for rank in (found, *found["ranks"]):
        assert rank["measured"]["components"] == rank["predicted"]["components"]
        assert set(rank["error"]["components"].values()) == {0.0}
        assert rank["measured"].keys() == rank["predicted"].keys() == rank["error"].keys()
        assert abs(rank["error"]["peak_allocated"]) < 1
        assert rank["passed"]
    return [rank["measured"] for rank in found["ranks"]]


@needs_torch
def test_two_ranks_of_ddp_hold_the_whole_model_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    code, found = smoked(tmp_path, capsys, accumulation=2)
    assert code == 0
    first, second = (rank["components"] for rank in check(found, 2))
    assert first == second
    assert first["optimizer_state"] == 2 * first["gradients"]
    assert list(temporary.iterdir()) == []


@needs_torch
def test_two_ranks_of_fsdp2_hold_a_half_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = smoked(tmp_path, capsys, sharding="fsdp2", accumulation=2)
    assert code == 0
    first, second = (rank["components"] for rank in check(found, 2))
    assert first == second
    parameters = 2 * 500 * 64 + 2 * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 160 + 2 * 64) + 64
    assert first["gradients"] == parameters * 4 // 2


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_of_four_ranks_the_last_has_fewer_rows(
    sharding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 501 words are cut into 126, 126, 126 and 123 rows.
    code, found = smoked(tmp_path, capsys, "--gpus", "4", sharding=sharding, words=501)
    assert code == 0
    states = [rank["components"]["optimizer_state"] for rank in check(found, 4)]
    missing = 0 if sharding == "none" else 3 * 64 * 4 * 2 * 2
    assert states == [states[0]] * 3 + [states[0] - missing]


@needs_torch
@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed: pip install deepspeed"
)
@pytest.mark.parametrize("sharding", ["zero1", "zero2", "zero3"])
def test_two_ranks_of_deepspeed_hold_their_partitions(
    sharding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = ("precision.params=bf16", "zero.reduce_bucket=20000", "zero.persistence=640")
    options = [word for value in values for word in ("--set", value)]
    code, found = smoked(tmp_path, capsys, *options, sharding=sharding, accumulation=2)
    assert code == 0
    first, second = (rank["components"] for rank in check(found, 2))
    assert first["optimizer_state"] == second["optimizer_state"]


def test_without_deepspeed_zero_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "installed", lambda name: None)
    with pytest.raises(InputError, match="DeepSpeed is not installed"):
        refuse(replace(WORKLOAD, world=World(data_parallel=2, sharding="zero2")))


TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
WORKLOAD = Workload(model=architecture(TINY, lambda _: None), world=World(data_parallel=2))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"world": World(data_parallel=2, sharding="fsdp1")}, "it is sharded as fsdp1"),
        ({"world": World(data_parallel=2, sharding="fsdp2", hybrid=True)}, "it is sharded within nodes only"),
        ({"world": World()}, "it has one rank only"),
        (
            {"world": World(data_parallel=2, sharding="zero3", zero=Zero(parameters=Place.CPU))},
            "states or parameters are offloaded to the host",
        ),
        ({"task": Task.GENERATE}, "it does not train"),
        ({"optimizer": Optimizer(name="lion")}, "its optimizer is lion"),
        ({"quantization": Quantization(kind="nf4")}, "its weights are stored as nf4"),
        ({"evaluation": Evaluation()}, "it evaluates between steps"),
    ],
)
def test_what_ranks_do_not_run_is_refused_by_name(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        refuse(replace(WORKLOAD, **changes))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "cpu", "--cap", "1GiB"), "--cap and --scaled are for one process"),
        (("--device", "cuda"), "add --device cpu"),
        (("--device", "fake"), "it runs on several GPUs"),
    ],
)
def test_options_that_do_not_go_with_ranks_are_refused(
    options: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.format(words=500, accumulation=1, sharding="none", ranks=1), encoding="utf-8")
    assert main(["smoke", str(path), "--gpus", "2", *options]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
