"""The simulator against memory that other people measured and published."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import pytest

from benchmarks import truth
from benchmarks.truth_cases import Case
from benchmarks.truth_comparison import PHASES, STAGES, Comparison, Figure, Report, compare
from benchmarks.truth_facts import AFTER_LOAD, ALLOCATED, PROCESS, RESERVED, RESIDENT, STATES
from benchmarks.truth_tables import GATED, as_markdown, as_text
from memplan.domain.architecture import Architecture

MIB = 2**20
TRUSTED, MEASURED_BY_PHASE = GATED["high confidence, one GPU"], GATED["Tesla T4 and RTX A6000"]

LIMITS = [
    (TRUSTED, ALLOCATED, 0.2, 0.7, 3.0),
    (TRUSTED, RESERVED, 2.0, 2.0, 6.0),
    (TRUSTED, PROCESS, 2.5, 2.5, 9.0),
    (MEASURED_BY_PHASE, ALLOCATED, 0.2, 0.2, 1.0),
    (MEASURED_BY_PHASE, AFTER_LOAD, 0.01, 0.2, 1.0),
    (MEASURED_BY_PHASE, STATES, 0.001, 0.01, 0.1),
]
"""Rows, metric, and the largest median, mean and worst error in percent."""

OTHER_READERS = {"2026-09-01": 0, "2026-09-15": 4}
"""Threads that the memory of two sessions shows, by their days: each as if it had the other's release."""


@pytest.mark.parametrize(("chosen", "metric", "middle", "mean", "worst"), LIMITS)
def test_errors_stay_within_what_is_promised(
    found: Report, chosen: Callable[[Case], bool], metric: str, middle: float, mean: float, worst: float
) -> None:
    spread = found.spread(metric, chosen)
    assert spread is not None
    assert spread.median <= middle
    assert spread.mean <= mean
    errors = found.errors(metric, chosen)
    assert {name: error for name, error in errors.items() if abs(error) > worst} == {}


def test_sessions_that_contradict_their_release_agree_with_the_other_one(found: Report) -> None:
    """An explanation and no more: nothing in these rows says so but their memory."""
    errors: dict[str, float] = {}
    for row in found.compared:
        if row.case.contradicts and row.case.suite == "fitcheck":
            other = replace(row.case)
            loaded = row.case.workload.quantization
            assert loaded is not None
            quantization = replace(loaded, readers=OTHER_READERS[row.case.id[-10:]])
            workload = replace(row.case.workload, quantization=quantization)
            vars(other)["reading"] = replace(row.case.reading, workload=workload)
            figure = compare(other).figure(RESERVED)
            assert figure is not None
            errors[row.case.id] = abs(figure.error)
    assert len(errors) == 16
    assert median(errors.values()) < 1.0
    assert max(errors.values()) <= 6.0, errors


@pytest.mark.parametrize("phase", STAGES)
def test_every_phase_peaks_within_one_mebibyte(found: Report, phase: str) -> None:
    measured = [row for row in found.compared if row.case.suite == "fitcheck" and not row.case.quantized]
    figures = {row.case.id: row.figure(phase) for row in measured}
    assert len(figures) == 12
    assert {name: it for name, it in figures.items() if it is None or abs(it.excess) > 1} == {}


@pytest.mark.parametrize("phase", PHASES)
def test_phases_of_quantized_runs_peak_within_one_mebibyte_above_what_loading_left(
    found: Report, phase: str
) -> None:
    """All but two runs of the smallest model, where blocks of 1 MiB decide how others are cut."""
    above = {}
    for row in found.compared:
        if not row.case.quantized:
            continue
        loaded, peak = row.figure(AFTER_LOAD), row.figure(phase)
        if loaded is not None and peak is not None:
            above[row.case.id] = abs(peak.excess - loaded.excess)
    assert len(above) == 21
    assert sorted(above.values())[-3] <= 2.0, above
    assert median(above.values()) <= 1.0, above


def test_what_stays_after_training_is_what_stayed(found: Report) -> None:
    errors = found.errors(RESIDENT)
    assert {name for name, error in errors.items() if abs(error) > 0.25} == set(), errors


def test_runs_on_a_t4_lie_within_their_bounds_however_their_weights_were_read(found: Report) -> None:
    outside = []
    for row in found.compared:
        process = row.figure(PROCESS)
        if row.case.suite == "fitcheck" and process is not None and not row.case.contradicts:
            assert row.bounds is not None
            low, high = row.bounds
            # What stands in the rows is rounded to the mebibyte.
            outside += [] if low - MIB <= process.measured <= high + MIB else [row.case.id]
    assert outside == []


def test_single_operators_peak_to_the_byte(found: Report) -> None:
    figures = {row.case.id: row.figures for row in found.compared if row.case.operator}
    assert sum(len(each) for each in figures.values()) == 12
    inexact = {name for name, each in figures.items() for figure in each if abs(figure.excess) > 0.002}
    # Their process had measured the speed before: of which cached blocks it took some were left whole.
    assert inexact == {f"op-liger-fused-linear-cross-entropy-liger-bt{tokens}" for tokens in (16384, 32768)}
    assert max(abs(figure.excess) for each in figures.values() for figure in each) <= 2


def test_runs_on_several_gpus_peak_where_they_were_measured_to(found: Report) -> None:
    errors = found.errors(
        ALLOCATED, lambda case: case.operator is None and case.workload.world.data_parallel > 1
    )
    assert len(errors) == 7
    assert [name for name, error in errors.items() if abs(error) > 0.05] == []


def test_no_outcome_is_decided_wrong(found: Report) -> None:
    decisions = {row.case.id: row.decision for row in found.decided}
    assert {name for name, decision in decisions.items() if decision == "wrong"} == set()
    undecided = {name for name, decision in decisions.items() if decision == "undecided"}
    # litgpt writes Gemma 2 in a way that is not simulated; the other is not what it declares.
    assert undecided == {"litgpt-hub-gemma2-9b-lora-g1-mb1", "litgpt-rt-lora-llama-2-7b-bf16-g1-mb4"}
    assert len(decisions) == 8


def test_the_gpu_is_the_one_the_row_names(found: Report) -> None:
    for row in found.compared:
        declared = re.search(r"sm_(\d)(\d)", str(row.case.facts["gpu"]))
        if declared is not None and row.case.operator is None:
            assert row.case.target.compute_capability == (int(declared[1]), int(declared[2]))


def test_an_estimate_follows_what_the_config_says(found: Report) -> None:
    row = next(row for row in found.compared if row.case.suite == "fitcheck")
    shorter = row.case.workload.changed("sequence.length", row.case.workload.sequence.length // 2)
    reading = replace(row.case.reading, workload=shorter)
    case = Case(suite=row.case.suite, facts=row.case.facts, folder=row.case.folder)
    case.__dict__["reading"] = reading
    assert compare(case).figures[0].estimated < row.figures[0].estimated


def test_the_readme_quotes_the_tables_as_they_are(found: Report) -> None:
    text = truth.README.read_text(encoding="utf-8")
    assert truth.quoted(text, as_markdown(found)) == text, "run python benchmarks/truth.py --update"


def test_no_error_changes_unseen(found: Report) -> None:
    kept = truth.TABLE.read_text(encoding="utf-8")
    assert as_text(found) == kept, "look at what changed, then run python benchmarks/truth.py --update"


def test_json_holds_every_row(found: Report) -> None:
    content = json.loads(truth.as_json(found))
    assert content["schema"] == "memplan.truth/2"
    assert len(content["rows"]) == len(found.compared)
    assert len(content["left_out"]) == len(found.left_out)
    first = content["rows"][0]["figures"][0]
    assert first["error"] == pytest.approx(100 * (first["estimated"] - first["measured"]) / first["measured"])


@pytest.mark.parametrize("form", [as_text, as_markdown])
def test_tables_name_the_worst_error(found: Report, form: Callable[[Report], str]) -> None:
    spread = found.spread(ALLOCATED, TRUSTED)
    assert spread is not None
    assert f"{spread.worst:.3f} %" in form(found)


def test_an_estimate_above_the_measurement_is_a_positive_error() -> None:
    figure = Figure(metric=ALLOCATED, measured=100 * MIB, estimated=101 * MIB)
    assert figure.error == pytest.approx(1.0)
    assert figure.excess == 1.0


def test_errors_below_count_as_much_as_errors_above(found: Report) -> None:
    cases = tuple(
        Comparison(
            case=found.compared[0].case,
            figures=(Figure(metric=ALLOCATED, measured=1000, estimated=estimated),),
        )
        for estimated in (900, 1010, 1000)
    )
    rows = tuple(
        replace(row, case=replace(row.case, facts={**row.case.facts, "id": str(index)}))
        for index, row in enumerate(cases)
    )
    spread = Report(compared=rows, left_out={}).spread(ALLOCATED)
    assert spread is not None
    assert spread.median == pytest.approx(1.0)
    assert spread.mean == pytest.approx(11 / 3)
    assert spread.worst == pytest.approx(10.0)


def test_parameters_are_as_many_as_a_model_is_known_to_have(found: Report) -> None:
    known = {"SmolLM2-135M": 134_515_008, "Qwen2.5-1.5B-Instruct": 1_543_714_304}
    counted = {
        str(row.case.facts["model"]).split("/")[-1]: row.case.workload.model.parameters
        for row in found.compared
        if row.case.operator is None and isinstance(row.case.workload.model, Architecture)
    }
    assert {name: counted[name] for name in known} == known
