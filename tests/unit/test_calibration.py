"""``--gpu auto`` with a record of runs that were measured on the same GPU."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memplan import profiles
from memplan.cli import main, target
from memplan.domain.bytes import Bytes
from memplan.domain.errors import MemplanError
from memplan.probe.calibration import LAST, of_runs
from memplan.probe.record import SCHEMA, VARIABLE, Entry, entries, usual_path
from tests.unit.cli.test_target import driver

MIB = 2**20
GPU = "NVIDIA GeForce RTX 3090"
DRIVER = "550.54.14"
CONFIG = """\
memplan: 1
task: train
model:
  config: {model_type: llama, hidden_size: 64, intermediate_size: 160, num_hidden_layers: 2,
            num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 500}
sequence: {length: 64}
"""
FIGURES = "{allocated: 1, reserved: 2, process: 3, context: CONTEXT, resident: null}"


def text(context: int | None, device: str = GPU, release: str = DRIVER, torch: str = "2.14.0") -> str:
    figures = FIGURES.replace("CONTEXT", "null" if context is None else str(context))
    return f"""\
- schema: {SCHEMA}
  date: "2026-11-22"
  device: "{device}"
  driver: "{release}"
  torch: "{torch}"
  transformers: "5.17.0"
  attention: sdpa
  workload: a model
  sha256: "00ff"
  predicted: {figures}
  measured: {figures}
"""


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of a machine with an RTX 3090; no PyTorch is taken to be installed."""
    nvml = driver()
    nvml.__dict__["nvmlSystemGetDriverVersion"] = lambda: DRIVER
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("memplan.probe.calibration.installed_torch", lambda: None)
    path = tmp_path / "calibration.yaml"
    monkeypatch.setenv(VARIABLE, str(path))
    (tmp_path / "run.yaml").write_text(CONFIG, encoding="utf-8")
    return path


def estimated(path: Path, capsys: pytest.CaptureFixture[str], gpu: str = "auto") -> dict[str, Any]:
    assert main(["estimate", str(path.parent / "run.yaml"), "--gpu", gpu, "--format", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def runs(*contexts: int | None, **given: str) -> tuple[Entry, ...]:
    figures: dict[str, Bytes | None] = dict.fromkeys(("allocated", "reserved", "process", "resident"))
    return tuple(
        Entry(
            date="2026-11-22",
            device=GPU,
            driver=given.get("driver", DRIVER),
            words={"torch": given.get("torch", "2.14.0")},
            predicted=figures,
            measured=figures | {"context": None if context is None else Bytes(context)},
        )
        for context in contexts
    )


def test_the_context_of_measured_runs_takes_the_place_of_what_any_such_gpu_has(
    record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = estimated(record, capsys)
    record.write_text(text(500 * MIB), encoding="utf-8")
    after = estimated(record, capsys)
    assert before["target"]["calibrated"] is None
    assert after["target"]["calibrated"] == {"runs": 1, "date": "2026-11-22"}
    assert after["device"]["context"] == 500 * MIB
    note = "the CUDA context is that of 1 run on this machine (2026-11-22)"
    assert note in after["warnings"]
    assert note not in before["warnings"]
    assert after["device"]["components"] == before["device"]["components"]
    assert after["device"]["peak_reserved"] == before["device"]["peak_reserved"]
    assert not [gap for gap in after["device"]["gaps"] if "context" in gap["reason"]]


def test_bounds_are_as_wide_as_the_runs_differ(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record.write_text(text(500 * MIB), encoding="utf-8")
    alike = estimated(record, capsys)["device"]
    record.write_text(text(500 * MIB) + text(460 * MIB), encoding="utf-8")
    found = estimated(record, capsys)["device"]
    assert found["context"] == 500 * MIB
    assert (found["high"], found["low"]) == (alike["high"], alike["low"] - 40 * MIB)
    assert "differed between 2 runs on this machine" in found["gaps"][0]["reason"]


def test_a_report_says_that_runs_were_measured(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record.write_text(text(500 * MIB), encoding="utf-8")
    for command in ("estimate", "fit"):
        assert main([command, str(record.parent / "run.yaml"), "--gpu", "auto"]) == 0
        assert "the CUDA context is that of 1 run on this machine" in " ".join(
            capsys.readouterr().out.split()
        )


def test_an_unknown_gpus_context_is_assumed_until_it_was_measured(
    record: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nvml = driver(name="NVIDIA Prototype X")
    nvml.__dict__["nvmlSystemGetDriverVersion"] = lambda: DRIVER.encode()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    before = estimated(record, capsys)["device"]
    record.write_text(text(500 * MIB, device="NVIDIA Prototype X"), encoding="utf-8")
    after = estimated(record, capsys)["device"]
    assert "is assumed, not measured" in before["gaps"][0]["reason"]
    assert after["process"] - after["low"] < before["process"] - before["low"]


@pytest.mark.parametrize(
    "other",
    [
        text(500 * MIB, device="NVIDIA T4"),
        text(500 * MIB, release="535.0"),
        text(500 * MIB, device="cpu"),
        text(None),
        text(0),
        text(24 * 2**30),
    ],
    ids=["another GPU", "another driver", "a CPU", "not told", "none", "too large"],
)
def test_runs_that_say_nothing_of_this_gpu_change_nothing(
    other: str, record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = estimated(record, capsys)
    record.write_text(other, encoding="utf-8")
    assert estimated(record, capsys) == before


@pytest.mark.parametrize("gpu", ["rtx3090", "24GiB"])
def test_a_named_gpu_does_not_depend_on_this_machine(
    gpu: str, record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = estimated(record, capsys, gpu)
    record.write_text(text(500 * MIB), encoding="utf-8")
    assert estimated(record, capsys, gpu) == before
    record.write_text("broken: [", encoding="utf-8")
    assert estimated(record, capsys, gpu) == before


def test_the_gate_uses_the_same_target(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record.write_text(text(19 * 2**30), encoding="utf-8")
    config = str(record.parent / "run.yaml")
    assert main(["check", config, "--gpu", "auto"]) == 0
    record.write_text(text(20 * 2**30 - MIB), encoding="utf-8")
    assert main(["check", config, "--gpu", "auto"]) == 1


def test_the_last_runs_of_the_installed_torch_count_else_those_of_the_newest() -> None:
    old, new = runs(300, 310, torch="2.9.1"), runs(*[400] * LAST, 420, torch="2.10.0")
    usable = Bytes(1000)
    known = [*new, *old]
    found = of_runs(known, DRIVER, "2.9.1", usable)
    assert found is not None
    assert (found.runs, found.least, found.most) == (2, 300, 310)
    found = of_runs([*runs(900, torch="2.10.0"), *known], DRIVER, None, usable)
    assert found is not None
    assert (found.runs, found.least, found.most) == (LAST, 400, 420)
    assert of_runs(known, None, None, usable) is None
    assert of_runs((), DRIVER, None, usable) is None


BROKEN: Sequence[tuple[str, str, int]] = (
    ("- [", "cannot be read|ends|expected", 1),
    ("model: x\n", "this is no record of measured runs", 1),
    ("- model: x\n", "this is no measured run", 1),
    (text(1).replace("run/1", "run/2"), "this is no measured run", 1),
    (text(1) + text(1).replace("context: 1", "context: x"), "context is no amount", 21),
    (text(1).replace("context: 1", "context: -1"), "context is no amount", 10),
    (text(1).replace("context: 1", "contents: 1"), "unknown key contents", 10),
    (text(1).replace("  attention: sdpa\n", ""), "attention is missing", 1),
    (text(1).replace("sdpa", "[sdpa]"), "attention is no text", 7),
    (text(1).replace("2026-11-22", "yesterday"), "date is no day", 2),
    (text(1) + "  date: x\n", "is written twice", 12),
)


@pytest.mark.parametrize(("broken", "why", "line"), BROKEN, ids=lambda value: None)
def test_a_broken_record_is_refused_with_its_place(
    broken: str, why: str, line: int, record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record.write_text(broken, encoding="utf-8")
    with pytest.raises(MemplanError, match=why) as caught:
        target.this_machine()
    assert caught.value.location is not None
    assert (caught.value.location.path, caught.value.location.line) == (str(record), line)
    assert main(["estimate", str(record.parent / "run.yaml"), "--gpu", "auto"]) == 2
    assert record.read_text(encoding="utf-8") == broken


def test_the_record_lies_where_data_of_a_user_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert usual_path({}) == tmp_path / ".local/share/memplan/calibration.yaml"
    assert usual_path({"XDG_DATA_HOME": "/data"}) == Path("/data/memplan/calibration.yaml")
    assert usual_path({"XDG_DATA_HOME": "data"}) == usual_path({})
    assert usual_path({VARIABLE: "mine.yaml"}) == Path("mine.yaml")
    assert usual_path({VARIABLE: ""}) is None


def test_an_empty_record_or_none_holds_no_runs(tmp_path: Path) -> None:
    assert entries(tmp_path / "none.yaml") == ()
    (tmp_path / "empty.yaml").write_text("# nothing yet\n", encoding="utf-8")
    assert entries(tmp_path / "empty.yaml") == ()


def test_the_profile_of_the_gpu_stays_as_it_was(record: Path) -> None:
    record.write_text(text(500 * MIB), encoding="utf-8")
    found = target.this_machine()
    assert found.gpu == profiles.gpu("rtx3090")
    assert (found.context, found.context_basis) == (500 * MIB, "measured")
