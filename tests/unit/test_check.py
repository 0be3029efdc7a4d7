"""The gate: which findings, at which line, and what fails."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from memplan import profiles
from memplan.apply import apply
from memplan.check import CheckReport, check
from memplan.domain.bytes import Bytes
from memplan.domain.errors import MemplanError
from memplan.domain.finding import Finding, Level
from memplan.domain.target import Target
from memplan.fit import fit
from memplan.read import read
from tests.planning import CONFIG, MIB, MODEL, Counter, estimate, target

NEUROGEN = Path(__file__).resolve().parents[2] / "examples" / "neurogen"
planner = partial(fit, estimator=estimate)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    copy = tmp_path / "neurogen"
    shutil.copytree(NEUROGEN, copy)
    return copy


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("memplan.read.Known.architecture", lambda self, config, where: MODEL)
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG)
    return path


def gate(*paths: Path, **options: object) -> CheckReport:
    return check(paths, planner=planner, estimator=estimate, **options)  # type: ignore[arg-type]


def codes(report: CheckReport) -> list[str]:
    return sorted(finding.code for finding in report.findings)


def one(report: CheckReport, code: str) -> Finding:
    (found,) = [finding for finding in report.findings if finding.code == code]
    return found


def test_a_declared_model_that_does_not_fit_fails_at_the_value_that_weighs_most(project: Path) -> None:
    report = gate(project)
    found = one(report, "MP001")
    assert (report.passed, report.exit_code) == (False, 1)
    assert Path(found.path) == project / "src/python/neurogen_bindings.cpp"
    assert "32768" in Path(found.path).read_text().splitlines()[found.line - 1]
    assert "decoder_matrix" in found.message


def test_the_fix_is_the_plan_in_one_line(project: Path) -> None:
    fix = one(gate(project), "MP001").fix
    assert fix is not None
    assert fix.startswith("embedding_dim 2048 → 768, output_dim 32768 → 8192, max_seq_length 512 → 256 (")
    assert f"memplan apply {project} --gpu gtx1650" in fix


def test_values_that_disagree_are_warned_of(project: Path) -> None:
    found = one(gate(project), "MP002")
    assert found.level is Level.WARNING
    assert "max_seq_length" in found.message


def test_the_gate_passes_once_the_plan_is_applied(project: Path) -> None:
    reading = read(project)
    apply(reading, fit(reading, profiles.target("gtx1650"), estimator=estimate))
    report = gate(project)
    assert (report.passed, report.exit_code, report.findings) == (True, 0, ())


def test_a_config_that_fits_gives_no_finding(config: Path) -> None:
    report = gate(config, target=target(20000))
    assert (report.findings, report.checked, report.exit_code) == ((), 1, 0)


def test_a_language_model_fails_at_what_sizes_its_largest_component(config: Path) -> None:
    found = one(gate(config, target=target(3000)), "MP001")
    assert CONFIG.splitlines()[found.line - 1].startswith("batch:")
    assert "logits_and_loss" in found.message


def test_a_margin_counts(config: Path) -> None:
    room = estimate(read(config).workload).device.process // MIB + 1
    assert gate(config, target=target(room)).passed
    report = gate(config, target=target(room), margin="10%")
    assert codes(report) == ["MP001"]
    assert "kept free" in one(report, "MP001").message
    assert "batch.micro 8 → 4" in (one(report, "MP001").fix or "")


def test_a_margin_that_makes_no_sense_is_an_error_of_the_caller(config: Path) -> None:
    with pytest.raises(MemplanError):
        gate(config, target=target(1000), margin="lots")


def test_bounds_that_straddle_the_limit_are_undecided(config: Path) -> None:
    room = estimate(read(config).workload).device.process // MIB
    report = check([config], target=target(room), planner=planner, estimator=Counter(spread=50 * MIB))
    found = one(report, "MP003")
    assert found.level is Level.WARNING
    assert "made up for tests" in found.message
    assert (report.passed, report.exit_code) == (True, 3)


def test_a_config_without_a_target_is_undecided(config: Path) -> None:
    report = gate(config)
    assert codes(report) == ["MP003"]
    assert report.exit_code == 3


def test_the_target_in_the_config_is_used(config: Path) -> None:
    config.write_text(CONFIG + "target: {gpu: gtx1650, margin: 5%}\n")
    assert "MP001" in codes(gate(config))
    assert gate(config, target=target(20000)).passed


def test_an_unknown_gpu_in_a_config_is_a_finding(config: Path) -> None:
    config.write_text(CONFIG + "target: {gpu: rtx3091}\n")
    found = one(gate(config), "MP004")
    assert "rtx3091" in found.message
    assert "rtx3090" in (found.fix or "")


@pytest.mark.parametrize(
    "text", ["", "memplan: 1\nbatch: [\n", "memplan: 1\nmodel: {config: {}}\nbatch: {micro: -1}\n", "\0"]
)
def test_a_config_that_cannot_be_read_is_a_finding_where_the_fault_is(config: Path, text: str) -> None:
    config.write_text(text)
    report = gate(config, target=target(1000))
    found = one(report, "MP004")
    assert found.path == str(config)
    assert found.line >= 1
    assert report.exit_code == 1


def test_a_missing_config_is_a_finding(tmp_path: Path) -> None:
    assert codes(gate(tmp_path / "gone.yaml", target=target(1000))) == ["MP004"]


def test_one_bad_config_does_not_hide_the_others(config: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("memplan: [\n")
    report = gate(bad, config, target=target(3000))
    assert codes(report) == ["MP001", "MP004"]


def t4() -> Target:
    return profiles.target("t4")


def test_bf16_on_a_gpu_without_it_is_an_error_where_it_is_asked_for(config: Path) -> None:
    config.write_text(CONFIG + "precision: {params: fp32, autocast: bf16}\n")
    found = one(gate(config, target=t4()), "MP005")
    assert found.level is Level.ERROR
    assert "bf16" in found.message
    assert config.read_text().splitlines()[found.line - 1].startswith("precision:")


def test_flash_attention_2_on_a_gpu_without_it_is_an_error(config: Path) -> None:
    text = CONFIG.replace("attention: sdpa", "attention: flash_attention_2")
    config.write_text(text + "precision: {params: fp16}\n")
    report = gate(config, target=t4())
    assert codes(report) == ["MP005"]
    assert "FlashAttention-2" in one(report, "MP005").message
    assert text.splitlines()[one(report, "MP005").line - 1].startswith("attention:")


def test_a_gpu_that_has_both_is_fine(config: Path) -> None:
    config.write_text(CONFIG.replace("attention: sdpa", "attention: flash_attention_2"))
    assert gate(config, target=profiles.target("rtx3090")).passed


def test_a_manifest_stands_for_every_config_it_lists(config: Path) -> None:
    manifest = config.parent / "memplan.yaml"
    (config.parent / "other.yaml").write_text(CONFIG.replace("micro: 8", "micro: 1"))
    manifest.write_text(
        "memplan: 1\n"
        "configs:\n"
        "  - {path: train.yaml, gpu: gtx1650}\n"
        "  - {path: other.yaml, gpu: gtx1650}\n"
        "  - {path: train.yaml, gpu: rtx3090, margin: 90%}\n"
        "  - {path: gone.yaml, gpu: rtx3090}\n"
        "  - {path: other.yaml, gpu: rtx3091}\n"
    )
    report = gate(config.parent)
    assert report.checked == 5
    assert codes(report) == ["MP001", "MP001", "MP004", "MP004", "MP005", "MP005"]


def test_known_findings_become_notes_and_new_ones_fail(config: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "known.json"
    first = gate(config, target=target(3000))
    findings = [asdict(finding) for finding in first.findings]
    baseline.write_text(json.dumps({"schema": "memplan.check/1", "passed": False, "findings": findings}))
    config.write_text("# moved down a line\n" + CONFIG.replace("length: 2048", "length: 2064"))
    known = gate(config, target=target(3000), baseline=baseline)
    assert known.passed
    assert [finding.level for finding in known.findings] == [Level.NOTE]
    other = tmp_path / "other.yaml"
    other.write_text(CONFIG)
    assert not gate(config, other, target=target(3000), baseline=baseline).passed


def test_a_baseline_covers_as_many_findings_as_it_lists(config: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "known.json"
    findings = [asdict(finding) for finding in gate(config, target=target(3000)).findings]
    baseline.write_text(json.dumps({"schema": "memplan.check/1", "passed": False, "findings": findings}))
    report = gate(config, config, target=target(3000), baseline=baseline)
    assert [finding.level for finding in report.findings] == [Level.NOTE, Level.ERROR]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"schema": "x", "findings": []}', '{"schema": "memplan.check/1", "findings": [1]}'],
)
def test_a_file_that_is_no_baseline_is_refused(config: Path, tmp_path: Path, text: str) -> None:
    baseline = tmp_path / "known.json"
    baseline.write_text(text)
    with pytest.raises(MemplanError):
        gate(config, target=target(3000), baseline=baseline)


def test_without_a_planner_the_command_that_plans_is_the_fix(config: Path) -> None:
    report = check([config], target=target(3000), estimator=estimate)
    assert one(report, "MP001").fix == f"memplan fit {config} --gpu {target(3000).name}"


def test_what_no_allowed_change_mends_says_so(config: Path) -> None:
    found = one(gate(config, target=Target.of_amount(Bytes(200 * MIB))), "MP001")
    assert "misses by" in (found.fix or "")
