"""Runs in host memory: ``--ram`` alone says where they have to fit, and reports leave the GPU out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.cli import main
from memplan.domain.bytes import Bytes
from memplan.domain.target import Target
from memplan.domain.watched import Prediction
from memplan.estimate import estimate
from memplan.read import read
from memplan.reporters.views.estimate import report

MANIFEST = """\
memplan: 1
model:
  mechanism: large_context
  values: {layers: 2, heads: 4, hidden: 256, vocab: 1000, context: 65536, training: false, cache: memory}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "memplan.yaml"
    path.write_text(MANIFEST)
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def payload(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    main([*words, "--format", "json"])
    return json.loads(capsys.readouterr().out)


def test_without_a_target_the_need_is_told(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "estimate", config)
    assert code == 0
    assert "of host memory" in text
    assert "name one with --ram" in text
    assert "GPU" not in text
    assert "CUDA" not in text


def test_ram_alone_is_a_target(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "estimate", config, "--ram", "8GiB")[0] == 0
    code, text = said(capsys, "estimate", config, "--ram", "1GiB")
    assert code == 1
    assert "on host: does not fit" in text
    assert "kv_cache" in text


def test_a_target_in_the_config_counts_unless_another_is_given(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(config).write_text(f"{MANIFEST}target: {{ram: 1GiB}}\n")
    assert said(capsys, "estimate", config)[0] == 1
    assert said(capsys, "estimate", config, "--ram", "8GiB")[0] == 0
    assert said(capsys, "check", config)[0] == 1
    assert said(capsys, "check", config, "--ram", "8GiB")[0] == 0


def test_the_contract_of_json_has_the_same_keys(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = payload(capsys, "estimate", config, "--ram", "8GiB")
    assert found["target"]["name"] == "host"
    assert found["verdict"] == "fits"
    assert found["device"]["process"] == 0
    assert found["host"]["peak"] + found["headroom"] == 8 * 2**30
    assert {part["name"] for part in found["host"]["components"]} >= {"kv_cache", "libraries", "blocks"}


def test_ram_that_is_no_amount_is_refused_at_its_place(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(config).write_text(f"{MANIFEST}target: {{ram: lots}}\n")
    code, text = said(capsys, "estimate", config)
    assert code == 2
    assert "memplan.yaml:5:" in text
    assert said(capsys, "estimate", config, "--ram", "lots")[0] == 2


def test_fit_needs_to_know_how_much_there_is(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "fit", config)
    assert code == 2
    assert "add --ram" in text


def test_a_plan_is_saved_applied_and_checked(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Path(config).with_name("plan.yaml")
    code, text = said(capsys, "fit", config, "--ram", "1200MiB", "--margin", "100MiB", "--out", str(plan))
    assert code == 0
    assert "host RAM, whole process" in text
    assert "GPU" not in text
    assert "gpu: host" in plan.read_text()
    assert said(capsys, "apply", "--plan", str(plan))[0] == 0
    assert "cache: mapped" in Path(config).read_text()
    code, text = said(capsys, "check", config, "--ram", "1200MiB", "--margin", "100MiB")
    assert (code, "nothing found" in text) == (0, True)
    assert said(capsys, "apply", "--plan", str(plan))[0] == 0


def test_the_gate_says_how_to_mend_it(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "check", config, "--ram", "1GiB")
    assert code == 1
    assert "host RAM of 1.00 GiB is not enough" in text
    assert "--ram 1GiB)" in text


def test_a_margin_counts_for_ram(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What fits with nothing to spare does not with a margin."""
    high = payload(capsys, "estimate", config)["host"]["high"]
    just = f"{high + 2**20}B"
    assert said(capsys, "check", config, "--ram", just)[0] == 0
    assert said(capsys, "check", config, "--ram", just, "--margin", "2MiB")[0] != 0


def test_an_unnamed_target_leaves_the_gate_undecided(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "check", config)
    assert code == 3
    assert "no RAM is named" in text
    assert "--ram SIZE" in text


def test_a_sweep_and_a_difference_are_of_host_memory(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "sweep", config, "--over", "context=4096..65536", "--ram", "1GiB")
    assert code == 0
    assert "host memory over context" in text
    other = Path(config).with_name("other.yaml")
    other.write_text(MANIFEST.replace("cache: memory", "cache: mapped"))
    code, text = said(capsys, "diff", config, str(other))
    assert code == 0
    assert "CUDA context" not in text


def test_explaining_leaves_the_gpu_out(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "explain", config)
    assert code == 0
    assert "kv_cache" in text
    assert "CUDA" not in text
    assert said(capsys, "explain", config, "kv_cache")[0] == 0


def test_no_gpu_is_ranked_for_a_run_that_takes_none(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "fit", config, "--gpu", "any")
    assert code == 2
    assert "runs in host memory, on no GPU" in text


def test_a_folder_of_plans_tells_what_each_needs_of_ram(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = payload(capsys, "fit", str(Path(config).parent), "--all", "--ram", "8GiB")
    (plan,) = found["plans"]
    assert plan["after"] > 400 * 2**20


def test_what_watches_a_run_expects_host_memory_and_nothing_of_a_gpu(config: str) -> None:
    prediction = Prediction.of(estimate(read(config).workload, Target.of_host(Bytes(2**33))), "case")
    assert prediction.gpu is None
    assert prediction.process is None
    assert prediction.host is not None
    assert prediction.host.predicted > 400 * 2**20


def test_a_config_for_a_gpu_may_say_how_much_ram_is_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It counts like ``--ram``, which counts instead of it."""
    path = tmp_path / "run.yaml"
    path.write_text(
        "memplan: 1\ntask: train\nmodel: {ref: meta-llama/Llama-3.2-1B}\ntarget: {gpu: h100-sxm, ram: 2GiB}\n"
    )
    code, text = said(capsys, "estimate", str(path))
    assert code == 1
    assert "Host RAM of 2.00 GiB: does not fit" in text
    assert "Host RAM of 64.0 GiB: fits" in said(capsys, "estimate", str(path), "--ram", "64GiB")[1]
    assert said(capsys, "check", str(path))[0] == 1
    assert said(capsys, "check", str(path), "--ram", "64GiB")[0] == 0


def test_a_disk_that_is_too_small_for_the_files_is_said(config: str) -> None:
    reading = read(config, overrides=("cache=mapped",))
    for free, told in ((2**20, True), (2**40, False)):
        found = estimate(reading.workload, Target.of_host(Bytes(2**33), disk=Bytes(free)))
        said_so = any("the run keeps 256 MiB of files" in str(block) for block in report(reading, found))
        assert said_so is told


def test_no_memory_at_all_is_refused(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "estimate", config, "--ram", "0GiB")
    assert code == 2
    assert "--ram 0GiB: that is no memory at all" in text
    (tmp_path / "memplan.yaml").write_text(f"{MANIFEST}target: {{ram: 0GiB}}\n")
    code, text = said(capsys, "estimate", config)
    assert code == 2
    assert "memplan.yaml:5:15: target.ram: is no memory at all" in text


def test_a_plan_that_fails_does_not_call_its_own_memory_beyond_what_is_allowed(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, "fit", config, "--ram", "100MiB")
    assert code == 1
    assert "What blocks: libraries" in text
    assert "Beyond what is allowed: host RAM" not in text


def test_a_sweep_says_between_what_host_memory_is(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("sweep", config, "--ram", "8GiB", "--over", "layers=1,2")
    found = payload(capsys, *words)["points"][0]["estimates"][0]
    assert found["host_low"] < found["host"] < found["host_high"]
    _, text = said(capsys, *words, "--format", "csv")
    header, first, *_ = text.splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert [int(row[name]) for name in ("host_low", "host", "host_high")] == [
        found["host_low"],
        found["host"],
        found["host_high"],
    ]


@pytest.mark.parametrize("name", ["batch.micro", "sequence.length", "optimizer.name"])
def test_what_a_mechanism_has_not_is_refused(
    name: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, "estimate", config, "--set", f"{name}=2")
    assert code == 2
    assert "such as --set layers=2" in text


def test_a_gpu_that_would_say_nothing_is_refused(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "estimate", config, "--gpu", "t4", "--ram", "8GiB")
    assert code == 2
    assert "runs in host memory, on no GPU" in text
    assert "--ram 16GiB" in text
