"""Host memory beside tensors: taken from measured runs where this machine is the target, and only there."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan import probe
from memplan.cli import main, target
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Basis
from memplan.domain.overhead import Overhead
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.estimate import estimate
from memplan.estimate.host import host_floor
from memplan.estimate.host.libraries import TORCH, TRANSFORMERS, libraries
from memplan.probe.calibration import LAST
from memplan.probe.overhead import on_cpu, on_gpu
from memplan.probe.record import FIGURES, NONE, SCHEMA, VARIABLE, Entry, entries
from memplan.read import read
from tests.unit.cli.test_host_only import MANIFEST
from tests.unit.cli.test_target import driver
from tests.unit.test_calibration import CONFIG, DRIVER, GPU

MIB, GIB = 2**20, 2**30
BUILD = ("2.13.0+cpu", "3.11.7")
EMPTY = dict.fromkeys(FIGURES)


def run(overhead: int | None, more: int = 0, **given: Any) -> Entry:
    """A run whose tensors were predicted to take a gibibyte; ``more`` was resident."""
    build, release = given.get("build", BUILD)
    figures: dict[str, Bytes | None] = dict(EMPTY)
    if overhead is not None:
        expected = Bytes(overhead + GIB)
        figures |= {"overhead": Bytes(overhead), "resident": Bytes(expected + more)}
    return Entry(
        date=given.get("date", "2026-11-22"),
        device=given.get("device", "cpu"),
        driver=given.get("driver"),
        words={"transformers": given.get("transformers", NONE), "build": build, "python": release},
        predicted=EMPTY | ({} if overhead is None else {"resident": Bytes(overhead + GIB)}),
        measured=figures,
    )


def text(overhead: int, more: int = 0, device: str = "cpu", release: str | None = None) -> str:
    """The same as people may read it."""
    figures = f"allocated: {GIB}, reserved: null, process: null, context: null"
    build, python = BUILD
    return f"""\
- schema: {SCHEMA}
  date: "2026-11-22"
  device: "{device}"
  driver: {"null" if release is None else json.dumps(release)}
  torch: "2.13.0"
  transformers: "{NONE}"
  attention: "{NONE}"
  workload: "a loop"
  sha256: "00ff"
  build: "{build}"
  python: "{python}"
  predicted: {{{figures}, resident: {overhead + GIB}, overhead: null}}
  measured: {{{figures}, resident: {overhead + GIB + more}, overhead: {overhead}}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in host memory, on a machine of 16 GiB with 8 of them free, with this build of PyTorch."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "calibration.yaml"))
    monkeypatch.setattr("memplan.probe.overhead.installed_build", lambda: BUILD)
    monkeypatch.setattr(probe, "ram", lambda: Bytes(16 * GIB))
    monkeypatch.setattr(probe, "free_ram", lambda: Bytes(8 * GIB))
    path = tmp_path / "memplan.yaml"
    path.write_text(MANIFEST, encoding="utf-8")
    return path


def recorded(config: Path, *entries: str) -> None:
    (config.parent / "calibration.yaml").write_text("".join(entries), encoding="utf-8")


def estimated(config: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["estimate", str(config), *options, "--format", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


HERE = (
    ["--ram", "auto"],
    ["--free-ram", "auto"],
    ["--gpu", "auto"],
    ["--gpu", "auto", "--ram", "4GiB"],
    ["--ram", "auto", "--free-ram", "4GiB"],
    ["--ram", "auto:4GiB"],
    ["--ram", "12GiB", "--free-ram", "auto"],
)


@pytest.mark.parametrize("options", HERE, ids=" ".join)
def test_this_machine_takes_what_its_runs_took(
    options: list[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = estimated(config, capsys, *options)
    recorded(config, text(330 * MIB), text(340 * MIB, more=6 * MIB), text(335 * MIB, more=-20 * MIB))
    after = estimated(config, capsys, *options)
    tensors = before["host"]["peak"] - TORCH - TRANSFORMERS
    assert after["host"]["peak"] == tensors + 340 * MIB
    assert after["host"]["low"] == tensors + 315 * MIB
    assert after["host"]["high"] == tensors + 346 * MIB
    assert after["target"]["calibrated"] == {"runs": 3, "date": "2026-11-22"}
    assert "the libraries' memory is that of 3 runs on this machine (2026-11-22)" in after["warnings"]
    # No tensor is touched.
    shares = [
        [part for part in found["host"]["components"] if part["name"] != "libraries"]
        for found in (before, after)
    ]
    assert shares[0] == shares[1]
    assert after["device"] == before["device"]


def test_what_is_meant_by_this_machine(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [estimated(config, capsys, *options)["target"]["usable"] // GIB for options in HERE]
    assert sizes == [16, 8, 8, 4, 4, 4, 8]
    config.write_text(f"{MANIFEST}target: {{ram: 2GiB}}\n", encoding="utf-8")
    assert estimated(config, capsys)["target"]["usable"] == 2 * GIB
    assert estimated(config, capsys, "--gpu", "auto")["target"]["usable"] == 8 * GIB


@pytest.mark.parametrize("options", [[], ["--ram", "8GiB"], ["--free-ram", "8GiB"]], ids=" ".join)
def test_so_much_ram_does_not_depend_on_this_machine(
    options: list[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = estimated(config, capsys, *options)
    recorded(config, text(330 * MIB))
    assert estimated(config, capsys, *options) == before
    recorded(config, "broken: [")
    assert estimated(config, capsys, *options) == before


def test_fitting_and_the_gate_reckon_with_it_too(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peak = estimated(config, capsys)["host"]["peak"] - TORCH - TRANSFORMERS
    room = ["--gpu", "auto", "--ram", f"{peak + 400 * MIB}B"]
    assert main(["check", str(config), "--ram", room[-1]]) == 3
    recorded(config, text(330 * MIB))
    capsys.readouterr()
    assert main(["fit", str(config), *room, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"] == []
    assert main(["check", str(config), "--ram", room[-1]]) == 3


def test_the_gate_may_be_this_machines(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peak = estimated(config, capsys)["host"]["peak"] - TORCH - TRANSFORMERS
    monkeypatch.setattr(probe, "ram", lambda: Bytes(peak + 400 * MIB))
    assert main(["check", str(config), "--ram", "auto"]) == 3
    recorded(config, text(330 * MIB))
    assert main(["check", str(config), "--ram", "auto"]) == 0
    recorded(config, text(410 * MIB))
    assert main(["check", str(config), "--ram", "auto"]) == 1


def test_a_plan_for_this_machine_is_applied_as_such(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere nothing is known of libraries but what is assumed, and the plan is not sure to fit."""
    recorded(config, text(330 * MIB))
    plan = str(config.with_name("plan.yaml"))
    monkeypatch.setattr(probe, "ram", lambda: Bytes(1000 * MIB))
    assert main(["fit", str(config), "--ram", "auto", "--out", plan]) == 0
    before = config.read_text(encoding="utf-8")
    assert main(["apply", "--plan", plan]) == 3
    assert config.read_text(encoding="utf-8") == before
    assert main(["apply", "--plan", plan, "--ram", "auto"]) == 0
    assert config.read_text(encoding="utf-8") != before
    said = capsys.readouterr().out
    assert "--ram auto:1000MiB" in said
    assert main(["check", str(config), "--ram", "1000MiB"]) == 3
    assert main(["check", str(config), "--ram", "auto:1000MiB"]) == 0


def test_a_machine_that_does_not_tell_is_asked_in_vain(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probe, "ram", lambda: None)
    monkeypatch.setattr(probe, "free_ram", lambda: None)
    assert estimated(config, capsys, "--gpu", "auto")["target"] is None
    assert main(["estimate", str(config), "--ram", "auto"]) == 2
    assert "does not tell how much memory it has" in capsys.readouterr().err
    monkeypatch.setattr(probe, "free_ram", lambda: Bytes(8 * GIB))
    assert main(["estimate", str(config), "--free-ram", "auto", "--ram", "2GiB"]) == 2
    assert "is more than --ram 2GiB" in capsys.readouterr().err
    assert main(["estimate", str(config), "--ram", "auto:much"]) == 2
    assert "--ram: " in capsys.readouterr().err


def test_a_broken_record_is_refused_where_it_would_be_used(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(config, text(1).replace("overhead: 1}", "overhead: x}"))
    assert main(["estimate", str(config), "--ram", "auto"]) == 2
    assert "calibration.yaml:13" in capsys.readouterr().err


def test_the_host_memory_of_a_gpus_runs_holds_for_it(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nvml = driver()
    nvml.__dict__["nvmlSystemGetDriverVersion"] = lambda: DRIVER
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    training = config.with_name("run.yaml")
    training.write_text(CONFIG, encoding="utf-8")
    before, other = (estimated(training, capsys, "--gpu", name) for name in ("auto", "rtx3090"))
    recorded(config, text(900 * MIB, device=GPU, release=DRIVER), text(300 * MIB))
    after = estimated(training, capsys, "--gpu", "auto")
    assert after["device"] == before["device"]
    assert before["host"]["high"] - before["host"]["low"] > 2 * GIB
    assert after["host"]["high"] - after["host"]["low"] == TORCH + TRANSFORMERS
    named = {part["name"]: part for part in after["host"]["components"]}
    assert (named["libraries"]["bytes"], named["libraries"]["basis"]) == (900 * MIB, "measured")
    assert "cuda_runtime" not in named
    assert after["target"]["calibrated"]["runs"] == 1
    assert estimated(training, capsys, "--gpu", "rtx3090") == other


amounts = st.integers(64 * MIB, GIB)
seen = st.tuples(amounts, st.integers(-32 * MIB, 256 * MIB))


@given(st.lists(seen, min_size=1, max_size=LAST + 3))
def test_bounds_hold_every_run_that_counts(found: list[tuple[int, int]]) -> None:
    overhead = on_cpu([run(beside, more) for beside, more in found], BUILD)
    assert overhead is not None
    last = found[-LAST:]
    assert overhead.runs == len(last)
    assert overhead.usual == max(beside for beside, _ in last)
    for beside, more in last:
        assert overhead.least <= min(beside, beside + more)
        assert max(beside, beside + more) <= overhead.most


@pytest.mark.parametrize(
    ("more", "tensors", "beyond"),
    [
        (10 * MIB, GIB, 0),
        (10 * MIB, 3 * GIB, 20 * MIB),
        (-10 * MIB, 3 * GIB, -20 * MIB),
        (512 * MIB, 2 * GIB, int(0.06 * GIB)),
        (0, 64 * GIB, 0),
    ],
)
def test_beyond_the_largest_run_bounds_grow_as_far_as_it_was_off(
    more: int, tensors: int, beyond: int
) -> None:
    """It had a gibibyte of tensors; a smaller one was off by more of its own."""
    small = replace(run(GIB), predicted=EMPTY | {"resident": Bytes(GIB + MIB)})
    found = on_cpu([small, run(GIB, more)], BUILD)
    assert found is not None
    assert found.largest == GIB
    assert found.beyond(tensors) == beyond


def test_bounds_of_an_estimate_grow_with_its_tensors(config: Path) -> None:
    workload = read(str(config)).workload
    alone = Target.of_host(Bytes(GIB))
    seen = Overhead(runs=1, date="2026-11-22", least=Bytes(1), usual=Bytes(2), most=Bytes(3))
    plain, more, less = (
        estimate(workload, alone.burdened(replace(seen, growth=growth))).host for growth in (0, 0.5, -2.0)
    )
    tensors = plain.peak - 2
    assert (plain.low, plain.high) == (tensors + 1, tensors + 3)
    assert (more.low, more.high) == (plain.low, plain.high + tensors // 2)
    assert (less.low, less.high) == (0, plain.high)


OTHERS: tuple[tuple[str, Entry], ...] = (
    ("another build", run(MIB, build=("2.13.0+cu128", BUILD[1]))),
    ("another Python", run(MIB, build=(BUILD[0], "3.13.0"))),
    ("with transformers", run(MIB, transformers="5.23.0")),
    ("on a GPU", run(MIB, device=GPU, driver=DRIVER)),
    ("not told", run(None)),
    ("of nothing", run(0)),
    ("less than nothing", run(MIB, more=-2 * MIB)),
)


@pytest.mark.parametrize("other", [entry for _, entry in OTHERS], ids=[name for name, _ in OTHERS])
def test_runs_unlike_it_do_not_count(other: Entry) -> None:
    assert on_cpu([other], BUILD) is None
    assert on_cpu([run(300 * MIB), other], BUILD) == on_cpu([run(300 * MIB)], BUILD)


def test_without_pytorch_the_last_build_that_was_run_counts() -> None:
    old, new = run(300 * MIB), run(400 * MIB, build=("2.14.0", "3.13.0"))
    for order, usual in (([old, new], 400), ([new, old], 300)):
        found = on_cpu(order, None)
        assert found is not None
        assert found.usual == usual * MIB
    assert on_cpu([], None) is None


def test_a_gpus_runs_are_told_by_name_and_driver() -> None:
    mine = run(900 * MIB, device=GPU, driver=DRIVER, transformers="5.23.0")
    found = on_gpu([mine], GPU, DRIVER, BUILD)
    assert found is not None
    assert found.on_gpu
    assert on_gpu([mine], "NVIDIA T4", DRIVER, BUILD) is None
    assert on_gpu([mine], GPU, "535.0", BUILD) is None
    assert on_gpu([mine], GPU, None, BUILD) is None


def test_entries_of_earlier_releases_say_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    kept = [line for line in text(MIB).splitlines() if not line.startswith(("  build", "  python"))]
    path.write_text("\n".join(kept).replace(", overhead: null", "").replace(f", overhead: {MIB}", "") + "\n")
    (found,) = entries(path)
    assert found.measured["overhead"] is None
    assert on_cpu([found], None) is None


@pytest.mark.parametrize("figures", [(0, 1, 1), (2, 1, 3), (1, 3, 2)])
def test_bounds_that_contradict_each_other_are_a_defect(figures: tuple[int, int, int]) -> None:
    least, usual, most = map(Bytes, figures)
    with pytest.raises(ValueError, match="say nothing"):
        Overhead(runs=1, date="2026-11-22", least=least, usual=usual, most=most)


def test_runs_with_a_gpu_say_nothing_of_runs_without(config: Path, tmp_path: Path) -> None:
    host = read(str(config)).workload
    training = tmp_path / "run.yaml"
    training.write_text(CONFIG, encoding="utf-8")
    with_gpu = Overhead(runs=1, date="2026-11-22", least=Bytes(1), usual=Bytes(2), most=Bytes(3), on_gpu=True)
    without = replace(with_gpu, on_gpu=False)
    trained = read(str(training)).workload
    alone, card = Target.of_host(Bytes(GIB)), Target.of_amount(Bytes(GIB))
    for workload, plain, like, unlike in (
        (host, alone, without, with_gpu),
        (trained, card, with_gpu, without),
    ):
        assert estimate(workload, plain.burdened(unlike)).host == estimate(workload, plain).host
        assert estimate(workload, plain.burdened(like)).host != estimate(workload, plain).host


def test_the_floor_of_a_search_stays_below_what_is_found(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    workload: Workload = read(str(path)).workload
    seen = Overhead(
        runs=2, date="2026-11-22", least=Bytes(MIB), usual=Bytes(2 * MIB), most=Bytes(3 * MIB), on_gpu=True
    )
    where = Target.of_amount(Bytes(GIB)).burdened(seen)
    assert host_floor(workload, seen) <= estimate(workload, where).host.high
    (share,) = libraries(seen)
    assert (share.low, share.bytes, share.basis) == (MIB, 2 * MIB, Basis.MEASURED)


def test_a_note_is_part_of_the_target(config: Path) -> None:
    recorded(config, text(330 * MIB))
    found = target.this_host("auto", None)
    assert found is not None
    assert found.overhead is not None
    assert found.notes == (found.overhead.note,)
    assert target.this_host("rtx3090", "8GiB") is None
