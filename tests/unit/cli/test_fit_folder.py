"""``memplan fit FOLDER``: one job, or every config below."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.cli import main
from memplan.fit.outcome import FolderPlans, LeftOut, Outcome, Planned
from memplan.read import read

ROOT = Path(__file__).resolve().parents[3]

HEAD = "memplan: 1\nmodel: {ref: HuggingFaceTB/SmolLM2-135M}\nsequence: {length: 512}\n"
SMALL = HEAD + "batch: {micro: 1}\n"
LARGE = HEAD + "batch: {micro: 64}\n"
HUGE = "memplan: 1\nmodel: {ref: meta-llama/Llama-3.1-8B}\n"
STRANGE = "memplan: 1\nmodel: {ref: nobody/never}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a folder of configs in it."""
    monkeypatch.chdir(tmp_path)
    configs = tmp_path / "configs"
    for name, text in {"b/small.yaml": SMALL, "large.yaml": LARGE, "b/notes.yaml": "colour: green\n"}.items():
        write(configs / name, text)
    return configs


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def fit(*arguments: str) -> int:
    """Only the micro-batch may be changed: there is less to search."""
    kept = ("loss", "optimizer", "allocator", "checkpointing", "attention", "activation_offload", "kernels")
    return main(["fit", *arguments, *(part for name in kept for part in ("--keep", name))])


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert fit(*arguments, "--format", "json") == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {plan["path"]: plan["outcome"] for plan in found["plans"]}


def test_every_config_below_a_folder_is_planned_in_the_order_of_paths(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "configs", "--all", "--gpu", "rtx3060")
    assert found["schema"] == "memplan.plans/1"
    assert list(outcomes(found).items()) == [
        ("configs/b/small.yaml", "fits"),
        ("configs/large.yaml", "fits_after_changes"),
    ]
    assert found["left_out"] == {"no config": 1}


def test_a_plan_of_a_folder_is_the_plan_of_its_config(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "configs", "--all", "--gpu", "rtx3060")
    alone = answer(capsys, "configs/large.yaml", "--gpu", "rtx3060")
    (entry,) = [plan for plan in found["plans"] if plan["path"] == "configs/large.yaml"]
    changed = [(change["field"], change["after"]) for change in alone["changes"]]
    assert [(change["field"], change["after"]) for change in entry["changes"]] == changed
    assert entry["after"] == alone["after"]["device"]["process"]
    assert entry["headroom"] == alone["after"]["headroom"]


def test_a_folder_that_is_one_job_is_planned_as_that_unless_all_are_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(capsys, "configs", "--gpu", "rtx3060")["schema"] == "memplan.plan/1"
    write(folder / "other.yaml", SMALL)
    assert answer(capsys, "configs", "--gpu", "rtx3060")["schema"] == "memplan.plans/1"


def test_one_file_at_the_top_that_is_no_config_hides_none_below(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "large.yaml").unlink()
    write(folder / "package.json", '{"name": "x"}')
    assert outcomes(answer(capsys, "configs", "--gpu", "rtx3060")) == {"configs/b/small.yaml": "fits"}


def test_one_config_that_is_broken_is_an_error_at_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "x/train.yaml", "memplan: 1\nmodel: {ref: [\n")
    assert fit(str(tmp_path / "x"), "--gpu", "rtx3060") == 2
    assert "train.yaml:" in capsys.readouterr().err


def test_the_parts_of_a_job_are_planned_together_and_models_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "all/job"
    for path in (ROOT / "examples/trl-accelerate").glob("*.yaml"):
        write(job / path.name, path.read_text("utf-8"))
    write(tmp_path / "all/model/config.json", '{"model_type": "llama", "hidden_size": 64}')
    found = answer(capsys, str(tmp_path / "all"), "--gpu", "a100-80g-sxm")
    assert outcomes(found) == {str(job): "fits"}
    assert found["left_out"] == {"a model's config": 1, "part of another config's job": 1}
    together = answer(capsys, str(job), "--gpu", "a100-80g-sxm")
    assert found["plans"][0]["after"] == together["after"]["device"]["process"]


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        ([SMALL, LARGE], 0),
        ([SMALL, HUGE], 1),
        ([SMALL, STRANGE], 0),
        ([STRANGE, STRANGE], 2),
        ([HUGE, STRANGE], 1),
    ],
)
def test_the_exit_code_says_whether_all_fit(
    texts: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, text in enumerate(texts):
        write(tmp_path / f"{number}.yaml", text)
    assert fit(str(tmp_path), "--gpu", "rtx3060") == code
    assert "Traceback" not in capsys.readouterr().err


def test_undecided_configs_have_an_exit_code_of_their_own() -> None:
    def code(*outcomes: Outcome) -> int:
        planned = tuple(Planned(path=Path("x"), outcome=outcome) for outcome in outcomes)
        return FolderPlans(folder=Path(), planned=planned, left_out={}).exit_code

    assert code(Outcome.FITS, Outcome.UNDECIDED, Outcome.UNREADABLE) == 3
    assert code(Outcome.UNDECIDED, Outcome.DOES_NOT_FIT) == 1


def test_what_cannot_be_read_is_told_with_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "strange.yaml", STRANGE)
    assert fit("configs", "--gpu", "rtx3060") == 0
    text = capsys.readouterr().out
    assert "1 not read" in text.splitlines()[0]
    assert "configs/strange.yaml: configs/strange.yaml:2:" in text


def test_a_model_given_stands_in_only_where_a_configs_own_is_not_known(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "sft.yml", "base_model: nobody/never\nsequence_len: 512\nmicro_batch_size: 1\n")
    alone = answer(capsys, "configs", "--gpu", "rtx3060")
    given = answer(capsys, "configs", "--gpu", "rtx3060", "--model", "HuggingFaceTB/SmolLM2-135M")
    assert outcomes(alone)["configs/sft.yml"] == "unreadable"
    assert outcomes(given)["configs/sft.yml"] == "fits"
    assert given["plans"][:2] == alone["plans"][:2]


def test_a_defect_is_the_outcome_of_one_config_and_stops_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **settings: object) -> None:
        raise ZeroDivisionError("no sense")

    monkeypatch.setattr("memplan.fit.folder.fit", broken)
    found = answer(capsys, "configs", "--all", "--gpu", "rtx3060", code=2)
    reasons = {plan["reason"] for plan in found["plans"]}
    assert reasons == {"this is a defect in memplan: ZeroDivisionError: no sense"}
    monkeypatch.setenv("MEMPLAN_TRACEBACK", "1")
    assert fit("configs", "--all", "--gpu", "rtx3060") == 70


def test_plans_are_saved_where_their_configs_lie_and_can_be_applied(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "configs", "--all", "--gpu", "rtx3060", "--out", "plans")
    saved = {plan["path"]: plan["plan"] for plan in found["plans"]}
    assert saved == {
        "configs/b/small.yaml": "plans/b/small.yaml.plan.yaml",
        "configs/large.yaml": "plans/large.yaml.plan.yaml",
    }
    assert main(["apply", "--plan", "plans/large.yaml.plan.yaml"]) == 0
    assert read(folder / "large.yaml").workload.batch.micro < 64


def test_a_folder_without_configs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(str(tmp_path), "--gpu", "rtx3060") == 2
    assert "holds no config" in capsys.readouterr().err


def test_configs_that_name_no_gpu_are_told_of_one_by_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "own.yaml", SMALL + "target: {gpu: rtx3090}\n")
    found = answer(capsys, "configs")
    assert outcomes(found)["configs/own.yaml"] == "fits"
    assert found["counts"]["unreadable"] == 2


@pytest.mark.parametrize("option", [["--dialect", "native"], ["--with", "x.json"]])
def test_what_belongs_to_one_config_is_refused_for_a_folder(
    option: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("configs", "--all", "--gpu", "rtx3060", *option) == 2
    assert "belong to one config" in capsys.readouterr().err


def test_markdown_shows_the_same_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("configs", "--all", "--gpu", "rtx3060", "--format", "markdown") == 0
    assert "| configs/large.yaml | fits after changes |" in capsys.readouterr().out


def test_left_out_files_are_counted_by_their_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "train.yaml", SMALL)
    write(tmp_path / "memplan.yaml", "memplan: 1\nconfigs: [{path: train.yaml}]\n")
    write(tmp_path / "pod.yaml", "apiVersion: v1\nkind: Pod\nmodel_name: x\n")
    found = answer(capsys, str(tmp_path), "--gpu", "rtx3060")
    assert found["left_out"] == {str(LeftOut.NOT_PLANNED): 1, str(LeftOut.LIST): 1}
    assert list(outcomes(found).values()) == ["fits"]
