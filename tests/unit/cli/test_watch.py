"""``memplan watch``: the prediction beside the run, exit codes, records; the GPU is a fake one."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from memplan import probe
from memplan.cli import main
from memplan.cli.watch import EPILOG, seconds
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError
from memplan.probe import Occupancy

CONFIG = """\
memplan: 1
model:
  config: {model_type: llama, hidden_size: 64, intermediate_size: 160, num_hidden_layers: 2,
           num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 500}
sequence: {length: 64}
target: {gpu: rtx3090}
"""
BIG = """\
memplan: 1
model:
  config: {model_type: llama, hidden_size: 512, intermediate_size: 1600, num_hidden_layers: 2,
           num_attention_heads: 8, num_key_value_heads: 8, vocab_size: 5000}
sequence: {length: 2048}
batch: {micro: 24}
precision: {params: fp32}
target: {gpu: gtx1650}
"""
HOLD = [sys.executable, "-c", "kept = b'1' * 2**28; import time; time.sleep(0.1)"]
PAUSE = ["--interval", "20ms"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in with a config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.yml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def with_gpu(monkeypatch: pytest.MonkeyPatch, amount: int) -> None:
    """A GPU of which every child of this process holds so much."""

    @contextmanager
    def driver() -> Iterator[object]:
        def look() -> tuple[Occupancy, ...]:
            children = psutil.Process().children()
            held = {child.pid: Bytes(amount) for child in children}
            used = Bytes(amount * len(children))
            return (Occupancy(index=0, name="NVIDIA GeForce RTX 3090", used=used, processes=held),)

        yield look

    monkeypatch.setattr(probe, "occupancies", driver)


def predicted(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main(["estimate", *arguments, "--format", "json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def record(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_what_was_taken_stands_beside_what_was_predicted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = predicted(capsys, "train.yml")["device"]
    with_gpu(monkeypatch, device["process"])
    out = folder / "record.json"
    code = main(["watch", "--config", "train.yml", "--strict", "--out", str(out), *PAUSE, "--", *HOLD])
    captured = capsys.readouterr()
    assert (code, captured.out) == (0, "")
    assert "within the prediction" in captured.err
    assert re.search(r"GPU 0 NVIDIA GeForce RTX 3090 .* within", captured.err)
    assert "predicted for train.yml on rtx3090" in captured.err
    found = record(out)
    assert (found["schema"], found["passed"], found["exit_code"]) == ("memplan.watch/1", True, 0)
    assert found["measured"]["gpus"][0]["peak"] == device["process"]
    assert found["predicted"]["process"] == {
        "predicted": device["process"],
        "low": device["low"],
        "high": device["high"],
    }


def test_strict_fails_beyond_the_upper_bound_and_only_then(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    high = predicted(capsys, "train.yml")["device"]["high"]
    watch = ["watch", "--config", "train.yml", *PAUSE]
    with_gpu(monkeypatch, high)
    assert main([*watch, "--strict", "--", *HOLD]) == 0
    with_gpu(monkeypatch, high + 2**20)
    assert main([*watch, "--", *HOLD]) == 0
    assert main([*watch, "--strict", "--", *HOLD]) == 1
    assert "beyond the prediction" in (said := capsys.readouterr().err)
    assert "1.00 MiB above" in said


def test_the_commands_own_exit_code_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpu(monkeypatch, 2**40)
    failing = [sys.executable, "-c", "import time; time.sleep(0.1); raise SystemExit(9)"]
    assert main(["watch", "--config", "train.yml", "--strict", *PAUSE, "--", *failing]) == 9


def test_a_run_without_a_gpu_is_not_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU here")
    assert main(["watch", "--config", "train.yml", "--strict", "--", "true"]) == 3
    assert "that is for a run on a GPU, and none was used" in capsys.readouterr().err
    assert main(["watch", "--config", "train.yml", "--", "true"]) == 0


def test_a_plan_is_what_the_run_is_held_against(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "train.yml").write_text(BIG, encoding="utf-8")
    fit = ["fit", "train.yml", "--margin", "200MiB", "--out", "plan.yaml"]
    assert main(fit) == 0
    capsys.readouterr()
    with_gpu(monkeypatch, 2**20)
    watch = ["watch", "--plan", "plan.yaml", "--out", "record.json", *PAUSE, "--", *HOLD]
    assert main(watch) == 0
    assert "train.yml does not hold the plan yet" in capsys.readouterr().err
    assert main(["apply", "--plan", "plan.yaml"]) == 0
    assert main(watch) == 0
    assert "does not hold" not in capsys.readouterr().err
    found = record(folder / "record.json")["predicted"]
    assert (found["source"], found["gpu"]) == ("plan.yaml", "gtx1650")
    assert found["process"]["predicted"] == predicted(capsys, "train.yml")["device"]["process"]
    assert found["limit"] < 4 * 2**30 - 200 * 2**20


def test_the_report_is_also_json_and_markdown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--format", "json", "--", "true"]) == 0
    assert json.loads(capsys.readouterr().err)["predicted"] is None
    assert main(["watch", "--format", "markdown", "--", "true"]) == 0
    assert capsys.readouterr().err.startswith("### true: exit code 0 after")


def test_live_lines_are_whole_and_name_the_bound(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_gpu(monkeypatch, 2**30)
    assert main(["watch", "--config", "train.yml", "--live", *PAUSE, "--", *HOLD]) == 0
    first = capsys.readouterr().err.splitlines()[0]
    assert re.fullmatch(
        r"memplan: 0:00:00  GPU 0 1\.00 GiB of at most [\d.]+ [MG]iB, RSS [\d.]+ [KM]iB", first
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a command after --"),
        (["--pid", "1", "--", "true"], "give a command after --, or a process with --pid"),
        (["--config", "train.yml", "--plan", "plan.yaml", "--", "touch", "ran"], "not both"),
        (["--gpu", "rtx3090", "--", "touch", "ran"], "--gpu needs --config PATH"),
        (["--strict", "--", "touch", "ran"], "--strict compares with a prediction"),
        (["--interval", "fast", "--", "touch", "ran"], "'fast' is not a time"),
        (["--interval", "1ms", "--", "touch", "ran"], "out of range"),
        (["--config", "absent.yml", "--", "touch", "ran"], "absent.yml"),
        (["--out", "absent/record.json", "--", "touch", "ran"], "cannot be written"),
        (["--", "no-such-program"], "no-such-program cannot be run: no such file"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["watch", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(("text", "amount"), [("0.5s", 0.5), ("200ms", 0.2), ("2", 2.0), (" 1 s ", 1.0)])
def test_times_are_read_with_their_unit(text: str, amount: float) -> None:
    assert seconds(text) == pytest.approx(amount)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1h", "9ms", "3601s", "1e3", "٣s"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(FieldError, match="--interval"):
        seconds(text)


README = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^(?:  |\$ )memplan (watch .*)$", EPILOG + README, re.MULTILINE)
NAMED = '#!/bin/sh\nif [ "$1" = launch ]; then shift; fi\nexec {python} "$@"\n'


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_help_and_readme_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], example: str
) -> None:
    (folder / "train.py").write_text("import time; time.sleep(0.05)\n", encoding="utf-8")
    for name in ("python", "accelerate"):
        (folder / name).write_text(NAMED.format(python=sys.executable), encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))
    with_gpu(monkeypatch, 2**20)
    if "--plan" in example:
        assert main(["fit", "train.yml", "--out", "plan.yaml"]) == 0
    with subprocess.Popen(["sleep", "0.3"]) as process:
        assert main(shlex.split(example.replace("4711", str(process.pid)))) == 0
    captured = capsys.readouterr()
    assert "What this rests on:" in captured.out + captured.err
