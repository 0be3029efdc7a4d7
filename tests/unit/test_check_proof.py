"""The gate's proof: what is found when the real classes allocate otherwise than predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memplan.check import check
from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError
from memplan.domain.finding import Level
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.target import Target
from memplan.domain.trace import Phase
from memplan.domain.workload import Workload

CONFIG = """\
memplan: 1
task: train
model:
  config: {model_type: llama, hidden_size: 64, intermediate_size: 160, num_hidden_layers: 2,
            num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 500}
target: {gpu: rtx3090}
"""
GIB = 2**30
SEEN = Measurement(
    peak_allocated=Bytes(GIB),
    peak_reserved=Bytes(GIB),
    phases=((Phase.FORWARD, Bytes(GIB)),),
    components=(),
)


def written(folder: Path) -> str:
    path = folder / "run.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return str(path)


def as_predicted(workload: Workload, target: Target | None) -> Comparison:
    return Comparison(device="fake", predicted=SEEN, measured=SEEN)


def not_as_predicted(workload: Workload, target: Target | None) -> Comparison:
    return Comparison(device="fake", predicted=replace(SEEN, peak_allocated=Bytes(2 * GIB)), measured=SEEN)


def not_traced(workload: Workload, target: Target | None) -> Comparison:
    raise InputError("this run cannot be traced", hint="wait")


def test_a_config_that_is_as_predicted_has_no_finding(tmp_path: Path) -> None:
    assert check([written(tmp_path)], prover=as_predicted).findings == ()


def test_one_that_is_not_fails_the_gate_and_says_by_how_much(tmp_path: Path) -> None:
    report = check([written(tmp_path)], prover=not_as_predicted)
    (finding,) = report.findings
    assert report.exit_code == 1
    assert (finding.code, finding.level, finding.line) == ("MP009", Level.ERROR, 4)
    assert "peak 1.00 GiB seen, 2.00 GiB predicted" in finding.message
    assert "forward" not in finding.message


def test_one_that_cannot_be_traced_is_noted_and_passes(tmp_path: Path) -> None:
    report = check([written(tmp_path)], prover=not_traced)
    (finding,) = report.findings
    assert report.exit_code == 0
    assert (finding.code, finding.level, finding.fix) == ("MP010", Level.NOTE, "wait")
