"""Host memory counts in every command that judges: what is free of it, where that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.apply import plan_file
from memplan.check import check
from memplan.cli import main
from memplan.domain.bytes import Bytes
from memplan.domain.target import Target
from memplan.fit import fit
from memplan.read import read

TEXT = "memplan: 1\nmodel: {ref: HuggingFaceTB/SmolLM2-135M}\nsequence: {length: 256}\nhost: {workers: 16}\n"


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "run.yml"
    path.write_text(TEXT)
    return str(path)


@pytest.mark.parametrize("option", ["--ram", "--free-ram"])
def test_too_little_host_memory_fails(option: str, config: str) -> None:
    assert main(["estimate", config, "--gpu", "24GiB", option, "300MiB"]) == 1
    assert main(["estimate", config, "--gpu", "24GiB", option, "64GiB"]) == 0
    assert main(["check", config, "--gpu", "24GiB", option, "64GiB"]) == 0


def test_the_gate_points_at_what_takes_the_memory(config: str) -> None:
    ram = Bytes.parse("300MiB")
    (finding,) = check([config], target=Target.of_amount(Bytes.parse("24GiB"), ram=ram)).findings
    assert (finding.code, finding.line) == ("MP001", 4)
    assert finding.message.startswith("host RAM of 300 MiB is not enough: phase ")
    assert "loader_workers" in finding.message


def test_memory_that_may_be_enough_is_undecided(config: str) -> None:
    ram = Bytes.parse("3GiB")
    report = check([config], target=Target.of_amount(Bytes.parse("24GiB"), ram=ram))
    assert [finding.code for finding in report.findings] == ["MP003"]
    assert report.exit_code == 3


def test_a_saved_plan_holds_only_where_the_host_has_the_memory(config: str, tmp_path: Path) -> None:
    target = Target.of_amount(Bytes.parse("24GiB"), ram=Bytes.parse("6GiB"))
    saved = tmp_path / "plan.yaml"
    plan = fit(read(config), target)
    assert plan.feasible
    assert "host.workers" in {change.field for change in plan.changes}
    plan_file.write(read(config), plan, saved)
    assert plan_file.load(saved).ram == "6GiB"
    assert main(["apply", "--plan", str(saved), "--free-ram", "300MiB"]) == 1
    assert Path(config).read_text() == TEXT
    assert main(["apply", "--plan", str(saved)]) == 0
    again = read(config)
    assert again.workload == plan.after.workload
