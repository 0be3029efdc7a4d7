"""The rows in this folder are what was published, re-typed."""

from __future__ import annotations

import pytest

from benchmarks import truth_cases, truth_export, truth_facts, truth_rows
from benchmarks.truth_cases import FOLDER
from benchmarks.truth_rows import Row
from memplan.domain.architecture import Architecture

DECLARED = {
    "num_params": "parameters",
    "num_layers": "num_hidden_layers",
    "num_hidden_layers": "num_hidden_layers",
    "num_kv_heads": "num_key_value_heads",
    "num_key_value_heads": "num_key_value_heads",
    "num_attention_heads": "num_attention_heads",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
    "head_dim": "head_dim",
    "tie_word_embeddings": "tie_word_embeddings",
}


@pytest.fixture(scope="module")
def covered(rows: list[Row]) -> dict[str, Row]:
    return {row["id"]: row for row in rows if truth_rows.left_out(row) is None}


def test_the_files_are_what_an_export_writes_now(rows: list[Row]) -> None:
    written = truth_export.files(rows)
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml")}
    assert there == written.keys(), "run python benchmarks/truth_export.py"
    for path, content in written.items():
        assert (FOLDER / path).read_text(encoding="utf-8") == content, path


def test_every_row_is_compared_or_left_out_with_a_reason(rows: list[Row]) -> None:
    compared = [case.id for case in truth_cases.load()]
    without = truth_cases.left_out()
    assert sorted([*compared, *without]) == sorted(row["id"] for row in rows)
    assert all(without.values())


def test_a_config_reads_back_as_the_run_its_row_declares(covered: dict[str, Row]) -> None:
    for case in truth_cases.load():
        if case.operator is None:
            assert case.workload == truth_rows.workload(covered[case.id]), case.id


def test_no_run_of_the_two_suites_is_left_out(rows: list[Row], covered: dict[str, Row]) -> None:
    wanted = {row["id"] for row in rows if row["suite"] in ("fitcheck", "vramcalc")}
    assert wanted <= covered.keys()


def test_a_model_has_the_shape_its_row_declares(covered: dict[str, Row]) -> None:
    checked = 0
    for row in covered.values():
        for key, value in (row.get("model_config") or {}).items():
            if key in DECLARED:
                assert getattr(truth_rows.shape(row), DECLARED[key]) == value, (row["id"], key)
                checked += 1
    assert checked > 100


def test_the_rows_whose_adapters_are_counted_train_as_many_parameters(covered: dict[str, Row]) -> None:
    counted = [row for row in covered.values() if (row.get("lora") or {}).get("trainable_params")]
    assert counted
    for row in counted:
        shape = truth_rows.shape(row)
        assert isinstance(shape, Architecture)
        sides = {group.name.split(".")[-2]: group.shape for group in shape.groups if len(group.shape) == 2}
        width = sum(sum(sides[name]) for name in row["lora"]["targets"])
        trained = width * row["lora"]["rank"] * shape.num_hidden_layers
        assert trained == row["lora"]["trainable_params"], row["id"]


def test_a_config_never_sees_the_measurement(covered: dict[str, Row]) -> None:
    hidden = ("measured", "measured_detail", "id", "outcome")
    for row in covered.values():
        if row["scope"] != "op":
            blind = {key: value for key, value in row.items() if key not in hidden}
            assert truth_rows.workload(blind) == truth_rows.workload(row)


def test_figures_are_copied_to_the_byte(covered: dict[str, Row]) -> None:
    for case in truth_cases.load():
        published = {entry["bytes"] for entry in covered[case.id]["measured"]}
        assert published >= set(case.measured.values()), case.id
        assert case.measured == dict(truth_facts.figures(covered[case.id]))


def test_missing_measurements_are_said_in_one_line(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEMPLAN_SHARED", str(tmp_path))
    assert truth_export.main([]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert str(tmp_path) in written.err
    assert "MEMPLAN_SHARED" in written.err
