"""A project whose sizes are spread over Python and C++, on a GTX 1650: from too big to fitting."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from memplan.cli import main
from memplan.domain.architecture import DeclaredModel
from memplan.read import read

SMOKE = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="torch is not installed: pip install 'memplan[smoke]'",
)
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "neurogen"
CHANGED = {
    "train_slimpajama.py": (
        ("embedding_dim: int = 2048  #", "embedding_dim: int = 768  #"),
        ("max_seq_length: int = 512  #", "max_seq_length: int = 256  #"),
    ),
    "train_advanced.py": (("embedding_dim: int = 2048  #", "embedding_dim: int = 768  #"),),
    "src/python/neurogen_bindings.cpp": (
        ("gpu_decoder_config.output_dim = 32768; //", "gpu_decoder_config.output_dim = 8192; //"),
    ),
    "src/modules/BrainOrchestrator.cpp": (
        (
            'config.name = "Broca";\n  config.num_outputs = 32768;\n  config.num_inputs = 32768;\n',
            'config.name = "Broca";\n  config.num_outputs = 8192;\n  config.num_inputs = 8192;\n',
        ),
    ),
}
GPU = ("--gpu", "gtx1650")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example, as ``neurogen`` in the current folder."""
    shutil.copytree(EXAMPLE, tmp_path / "neurogen")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "neurogen"


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Run a command with ``--format json``: exit code and payload."""

    def run(*arguments: str) -> tuple[int, Any]:
        code = main([*arguments, "--format", "json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sizes(estimate: Any) -> dict[str, int]:
    declared = [part for part in estimate["device"]["components"] if part["basis"] == "declared"]
    return {part["name"]: part["bytes"] for part in declared}


@pytest.mark.usefixtures("project")
def test_the_estimate_counts_what_the_manifest_declares(answer: Callable[..., tuple[int, Any]]) -> None:
    code, payload = answer("estimate", "neurogen", *GPU)
    assert code == 1
    assert payload["verdict"] == "does_not_fit"
    assert sizes(payload) == {
        "token_embeddings": 32000 * 2048 * 4,
        "decoder_matrix": 32768 * 32000 * 4,
        "brain_modules": 533_330_000 + 8138 * 32768,
        "working_memory": 400_000_000,
    }
    assert payload["device"]["peak_allocated"] == pytest.approx(5.66e9, rel=0.005)


@pytest.mark.usefixtures("project")
def test_the_plan_is_the_balanced_rung_and_offers_the_other_profiles(
    answer: Callable[..., tuple[int, Any]],
) -> None:
    code, plan = answer("fit", "neurogen", *GPU)
    assert code == 0
    assert plan["profile"] == "balanced"
    after = {change["field"]: change["after"] for change in plan["changes"]}
    assert after == {"embedding_dim": 768, "output_dim": 8192, "max_seq_length": 256}
    assert sizes(plan["after"])["decoder_matrix"] == 1_048_576_000
    assert sizes(plan["after"])["token_embeddings"] == 98_304_000
    device, target = plan["after"]["device"], plan["after"]["target"]
    assert device["peak_allocated"] == pytest.approx(2.15e9, rel=0.005)
    assert (target["usable"] - device["peak_allocated"]) / target["usable"] == pytest.approx(0.48, abs=0.01)
    others = {
        other["name"]: {change["field"]: change["after"] for change in other["changes"]}
        for other in plan["alternatives"]
    }
    assert others == {
        "ultra-conservative": {"embedding_dim": 512, "output_dim": 6144, "max_seq_length": 128},
        "aggressive": {"embedding_dim": 1024, "output_dim": 12288, "max_seq_length": 256},
    }


@pytest.mark.usefixtures("project")
def test_planning_needs_no_consent_beyond_the_manifests_own(answer: Callable[..., tuple[int, Any]]) -> None:
    code, plan = answer("fit", "neurogen", *GPU, "--allow", "exact")
    assert (code, plan["feasible"]) == (0, True)


def test_apply_changes_exactly_the_planned_values_in_four_files(project: Path) -> None:
    before = contents(project)
    assert main(["apply", "neurogen", *GPU]) == 0
    after = contents(project)
    assert {name for name in before if before[name] != after[name]} == set(CHANGED)
    for name, values in CHANGED.items():
        expected = before[name].decode()
        for old, new in values:
            assert expected.count(old) == 1
            expected = expected.replace(old, new)
        assert after[name].decode() == expected


def test_a_second_apply_changes_nothing(project: Path) -> None:
    assert main(["apply", "neurogen", *GPU]) == 0
    once = contents(project)
    assert main(["apply", "neurogen", *GPU]) == 0
    assert contents(project) == once


def test_diff_writes_nothing_and_shows_every_change(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(project)
    assert main(["apply", "neurogen", *GPU, "--diff"]) == 0
    assert contents(project) == before
    shown = capsys.readouterr().out
    assert [name for name in CHANGED if f"+++ b/neurogen/{name}" not in shown] == []
    assert shown.count("\n+ ") == 6


@pytest.mark.usefixtures("project")
def test_the_checklist_names_places_the_rebuild_and_the_verifying_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["apply", "neurogen", *GPU]) == 0
    text = capsys.readouterr().out
    assert "neurogen/src/python/neurogen_bindings.cpp:28 32768 → 8192" in text
    assert "C++ sources changed: rebuild before running" in text
    assert "memplan check neurogen" in text


def test_the_gate_fails_before_and_passes_after(project: Path) -> None:
    assert main(["check", "neurogen"]) == 1
    assert main(["apply", "neurogen", *GPU]) == 0
    assert main(["check", "neurogen"]) == 0
    assert main(["estimate", "neurogen", *GPU]) == 0


def test_a_saved_plan_can_be_applied_later(project: Path) -> None:
    assert main(["fit", "neurogen", *GPU, "--out", "plan.yaml"]) == 0
    assert main(["apply", "--plan", "plan.yaml"]) == 0
    assert b"= 8192; //" in (project / "src/python/neurogen_bindings.cpp").read_bytes()


def test_a_saved_plan_is_refused_when_a_file_has_changed_since(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "neurogen", *GPU, "--out", "plan.yaml"]) == 0
    script = project / "train_advanced.py"
    script.write_text(script.read_text() + "\n# a late thought\n")
    before = contents(project)
    capsys.readouterr()
    assert main(["apply", "--plan", "plan.yaml"]) == 2
    assert "train_advanced.py" in capsys.readouterr().err
    assert contents(project) == before


def test_a_saved_plan_may_be_given_with_the_path_and_gpu_it_was_made_for(project: Path) -> None:
    assert main(["fit", "neurogen", *GPU, "--out", "plan.yaml"]) == 0
    assert main(["apply", "neurogen", *GPU, "--plan", "plan.yaml"]) == 0
    assert b"= 8192; //" in (project / "src/python/neurogen_bindings.cpp").read_bytes()


@pytest.mark.parametrize("given", [["other.yml"], ["neurogen", "--gpu", "rtx3090"]])
def test_a_saved_plan_is_refused_for_another_path_or_gpu(
    project: Path, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "neurogen", *GPU, "--out", "plan.yaml"]) == 0
    before = contents(project)
    capsys.readouterr()
    assert main(["apply", *given, "--plan", "plan.yaml"]) == 2
    assert "is a plan for" in capsys.readouterr().err
    assert contents(project) == before


def test_backups_hold_the_originals(project: Path) -> None:
    before = contents(project)
    assert main(["apply", "neurogen", *GPU, "--backup"]) == 0
    after = contents(project)
    assert {name: after[f"{name}.orig"] for name in CHANGED} == {name: before[name] for name in CHANGED}


@SMOKE
@pytest.mark.parametrize(
    ("profile", "total"),
    [
        ("ultra-conservative", 32000 * 4 * (512 + 6144) + 533_330_000 + 8138 * 6144 + 400_000_000),
        ("balanced", 32000 * 4 * (768 + 8192) + 533_330_000 + 8138 * 8192 + 400_000_000),
        ("aggressive", 32000 * 4 * (1024 + 12288) + 533_330_000 + 8138 * 12288 + 400_000_000),
    ],
)
@pytest.mark.usefixtures("project")
def test_every_profile_is_as_large_as_planned(
    profile: str,
    total: int,
    answer: Callable[..., tuple[int, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["fit", "neurogen", *GPU, "--profile", profile, "--out", "plan.yaml"]) == 0
    capsys.readouterr()
    code, found = answer("smoke", "plan.yaml", "--device", "fake")
    assert (code, found["error"]["peak_allocated"]) == (0, 0.0)
    declared = {name: size for name, size in found["measured"]["components"].items() if name != "rounding"}
    assert sum(declared.values()) == total
    told = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    assert all(f"{size:,}" in told for size in (total, *declared.values()))
    assert [check["done"] for check in found["checks"]] == [True, False, False]


@SMOKE
@pytest.mark.usefixtures("project")
def test_as_written_it_dies_on_the_card_of_the_decoder(answer: Callable[..., tuple[int, Any]]) -> None:
    code, found = answer("smoke", "neurogen", "--device", "cpu")
    died = found["shortage"]
    assert (code, died["tensor"], died["tried"]) == (1, "decoder_matrix", 32768 * 32000 * 4)
    assert (died["phase"], died["foreseen"]) == ("load", True)
    assert died["allocated"] == found["measured"]["peak_allocated"] == 32000 * 2048 * 4


def test_the_stand_in_takes_what_is_declared(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(project))
    for name in ("standin", "train_slimpajama"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    standin = import_module("standin")
    found = standin.amounts(standin.TrainingConfig(), 32768)
    model = read(project).workload.model
    assert isinstance(model, DeclaredModel)
    assert found == model.sizes()
    for name in ("standin", "train_slimpajama"):
        monkeypatch.delitem(sys.modules, name)


def test_watch_sees_the_stand_in_take_its_amounts_phase_by_phase(project: Path) -> None:
    assert main(["apply", "neurogen", *GPU]) == 0
    arguments = ["--share", "16", "--pause", "0.2"]
    watch = ["watch", "--config", "neurogen", *GPU, "--interval", "20ms", "--out", "watched.json", "--"]
    assert main([*watch, sys.executable, str(project / "standin.py"), *arguments]) == 0
    watched = json.loads((project.parent / "watched.json").read_text())
    assert watched["passed"] is None
    held = [phase["host"] for phase in watched["measured"]["phases"].values()]
    sizes = {"token_embeddings": 98_304_000, "decoder_matrix": 1_048_576_000}
    sizes |= {"brain_modules": 533_330_000 + 8138 * 8192, "working_memory": 400_000_000}
    assert list(watched["measured"]["phases"]) == list(sizes)
    taken = [size // 16 for size in sizes.values()]
    grown = [after - before for before, after in pairwise(held)]
    assert grown == pytest.approx(taken[1:], abs=2**20)
    # The interpreter itself is the rest.
    assert sum(taken) < watched["measured"]["host"]["peak"] < sum(taken) + 40 * 2**20
