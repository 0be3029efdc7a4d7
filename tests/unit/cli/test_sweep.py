"""``memplan sweep`` as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan.cli import main

CONFIG = """memplan: 1
model:
  tensors: {table: {shape: [rows, 1024], dtype: fp32}, wide: {shape: [rows, columns], dtype: fp32}}
  values: {rows: 4096, columns: 64}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["sweep", *arguments]) == 0
    return capsys.readouterr().out


def test_a_sweep_is_a_table_a_sketch_and_a_boundary(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, config, "--over", "rows=1024..8192", "--over", "columns=1..4", "--gpu", "t4")
    assert "rows downwards, columns across" in text
    assert "fits t4" in text
    assert "all, up to 4" in text


def test_several_gpus_are_judged_and_each_is_named_once(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus = ["--gpu", "t4", "--gpu", "rtx3090", "--gpu", "T4"]
    told = json.loads(said(capsys, config, "--over", "rows=1,2", *gpus, "--format", "json"))
    assert [item["name"] for item in told["targets"]] == ["t4", "rtx3090"]
    assert {item["verdict"] for point in told["points"] for item in point["estimates"]} == {"fits"}


def test_csv_and_markdown_are_forms_too(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, config, "--over", "rows=1,2", "--format", "csv").startswith("rows,gpu,process")
    assert "| rows |" in said(capsys, config, "--over", "rows=1,2", "--format", "markdown")


LOOP = """memplan: 1
task: generate
model:
  mechanism: buffers
  values: {tokens: 100, vocabulary: 32000, embedding: 64, state: 64, output: 64}
"""


def test_machines_that_differ_in_ram_are_judged_and_the_largest_value_is_exact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "memplan.yaml"
    path.write_text(LOOP, encoding="utf-8")
    over = [str(path), "--over", "vocabulary=32000..64000000"]
    rams = ["--ram", "1GiB", "--ram", "8GiB", "--ram", "1024MiB"]
    told = json.loads(said(capsys, *over, *rams, "--exact", "--format", "json"))
    assert [item["name"] for item in told["targets"]] == ["1GiB", "8GiB"]
    (small,), (large,) = (item["rows"] for item in told["boundaries"])
    assert small["largest"] < small["exact"] < large["largest"] < large["exact"]
    assert f"(exactly {small['exact']:,})" in said(capsys, *over, *rams, "--exact")
    assert "exactly" not in said(capsys, *over, *rams)


@pytest.mark.parametrize(
    "options", [["--gpu", "t4"], ["--free-ram", "1GiB"]], ids=["on a GPU", "with what is free"]
)
def test_several_amounts_of_ram_are_for_runs_in_host_memory(
    config: str, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    rams = ["--ram", "8GiB", "--ram", "16GiB"]
    assert main(["sweep", config, "--over", "rows=1,2", *rams, *options]) == 2
    assert "--ram is given 2 times" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.svg", "out.html", "out.csv"])
def test_a_picture_is_written_beside_the_answer(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert said(capsys, config, "--over", "rows=1..16", "--gpu", "t4", "--out", str(tmp_path / name))
    assert (tmp_path / name).stat().st_size > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--over", "rows"], "names no values"),
        (["--over", "rows=8..1"], "runs backwards"),
        (["--over", "rwos=1..8"], "did you mean rows"),
        (["--over", "rows=1..8", "--gpu", "abacus"], "no GPU is called"),
        (["--over", "rows=1..8", "--out", "plot.gif"], "no form of picture"),
        (["--over", "rows=1..8", "--hold", "rows"], "nothing that can be kept"),
        ([], "--over"),
    ],
)
def test_what_cannot_be_swept_exits_with_2(
    config: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["sweep", config, *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_nothing_is_written_when_the_answer_is_an_error(config: str, tmp_path: Path) -> None:
    assert main(["sweep", config, "--over", "rows=x", "--out", str(tmp_path / "out.svg")]) == 2
    assert not (tmp_path / "out.svg").exists()
