"""Plans with a setting of the environment: the files are written, and the line to export is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.apply import apply, plan_file
from memplan.check import check
from memplan.cli import main
from memplan.domain.bytes import Bytes
from memplan.domain.errors import StaleError
from memplan.domain.plan import Plan
from memplan.domain.target import Target
from memplan.domain.workload import Batch, Workload
from memplan.estimate import estimate
from memplan.fit import fit
from memplan.read import read
from memplan.reporters.json import plan as as_json

TRAINER = """\
model_name_or_path: HuggingFaceTB/SmolLM2-135M
train_file: corpus.txt
per_device_train_batch_size: 2  # sequences
block_size: 2048
"""
OTHERS = ("checkpointing", "attention", "loss", "kernels", "optimizer", "precision", "activation_offload")
SETTING = "allocator.expandable_segments"
UNDECIDED = 3
LINE = "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(TRAINER, encoding="utf-8")
    return path


def only_just(workload: Workload) -> Target:
    """A GPU on which a workload runs with expandable segments, and not without."""
    anywhere = Target.of_amount(Bytes(64 * 2**30))
    found = Target.of_amount(estimate(workload.changed(SETTING, True), anywhere).device.high)
    assert not estimate(workload, found).device.stays_within(found.limit)
    return found


def batched(path: Path, target: Target | None = None) -> tuple[Plan, Target]:
    """A plan that needs smaller batches and the environment's setting."""
    reading = read(path)
    where = target or only_just(reading.workload.changed("batch", Batch(micro=1, accumulation=2)))
    return fit(reading, where, keep=OTHERS, brief=True), where


def test_the_files_are_written_and_the_line_is_left_to_do(config: Path) -> None:
    plan, _ = batched(config)
    assert {change.field for change in plan.changes} == {"batch.micro", "batch.accumulation", SETTING}
    assert not plan.by_hand
    applied = apply(read(config), plan)
    assert applied.written
    assert any(LINE in note for note in applied.checklist.notes)
    again = read(config)
    assert again.workload == plan.after.workload.changed(SETTING, False)


def test_the_gate_passes_when_it_is_told_of_the_environment(config: Path) -> None:
    plan, target = batched(config)
    applied = apply(read(config), plan)
    assert check([config], target=target).exit_code == UNDECIDED
    assert applied.checklist.verify.endswith(f"--set {SETTING}=true")
    assert check([config], target=target, overrides=[f"{SETTING}=true"]).exit_code == 0


def test_a_second_plan_asks_for_the_environment_alone_and_writes_nothing(config: Path) -> None:
    plan, target = batched(config)
    apply(read(config), plan)
    written = config.read_bytes()
    second, _ = batched(config, target)
    assert [change.field for change in second.changes] == [SETTING]
    applied = apply(read(config), second)
    assert not applied.files
    assert any(LINE in note for note in applied.checklist.notes)
    assert config.read_bytes() == written
    told = fit(read(config, overrides=[f"{SETTING}=true"]), target, keep=OTHERS)
    assert told.feasible
    assert told.changes == ()


def test_a_saved_plan_is_applied_once_and_then_only_names_the_line(config: Path) -> None:
    plan, target = batched(config)
    file = config.with_name("plan.yaml")
    plan_file.write(read(config), plan, file)
    first = plan_file.load(file).plan(read(config), target)
    assert apply(read(config), first).written
    second = plan_file.load(file).plan(read(config), target)
    assert [change.field for change in second.changes] == [SETTING]
    assert second.feasible
    assert not apply(read(config), second).files


def test_a_saved_plan_of_the_environment_alone_is_refused_for_a_changed_file(config: Path) -> None:
    reading = read(config)
    target = only_just(reading.workload)
    plan = fit(reading, target, keep=(*OTHERS, "batch"))
    assert [change.field for change in plan.changes] == [SETTING]
    file = config.with_name("plan.yaml")
    plan_file.write(reading, plan, file)
    assert plan_file.load(file).plan(read(config), target).feasible
    config.write_text(TRAINER.replace("2048", "1024"), encoding="utf-8")
    with pytest.raises(StaleError):
        plan_file.load(file).plan(read(config), target)


def test_reports_say_where_the_line_belongs(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, target = batched(config)
    (advice,) = as_json(read(config), plan)["advice"]
    assert advice["outside"]
    options = ["--gpu", f"{int(target.limit)}B"]
    for keep in OTHERS:
        options += ["--keep", keep]

    def printed(command: str) -> str:
        assert main([command, str(config), *options]) == 0
        return capsys.readouterr().out

    shown = printed("fit")
    assert "To be set where the run is started:" in shown
    assert "by hand" not in shown
    assert f"[ ] {LINE}" in printed("apply")
    repeated = printed("apply")
    assert "Nothing to change in the files." in repeated
    assert f"[ ] {LINE}" in repeated
