"""``memplan sweep --measure``: every combination is run as well, and stands beside its prediction."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from memplan.cli import main

SETTLING = """memplan: 1
task: train
model:
  mechanism: equilibrium_propagation
  values: {depth: 4, width: 16, batch: 8}
"""
STATE = 8 * 16 * 4


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "memplan.yaml"
    path.write_text(SETTLING, encoding="utf-8")
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["sweep", *arguments]) == 0
    return capsys.readouterr().out


def test_every_combination_has_its_run_beside_it(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    axes = ("--over", "depth=2,4", "--over", "method=manual,autograd")
    told = json.loads(said(capsys, config, *axes, "--measure", "--format", "json"))
    assert [run["values"] for run in told["runs"]] == [point["values"] for point in told["points"]]
    assert {run["device"] for run in told["runs"]} == {"cpu"}
    assert all(run["predicted"] == run["seen"] > 0 and run["error"] == 0 for run in told["runs"])
    assert "predicted  " in said(capsys, config, *axes, "--measure")


def test_a_component_is_looked_at_by_itself(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    of = ("--measure", "--component", "activations", "--format", "json")
    told = json.loads(said(capsys, config, "--over", "depth=4..16", *of))
    assert told["shown"] == ["activations"]
    assert [(run["predicted"], run["seen"]) for run in told["runs"]] == [(3 * STATE, 3 * STATE)] * 3
    both = json.loads(said(capsys, config, "--over", "depth=4,5", *of, "--component", "states"))
    assert [run["seen"] for run in both["runs"]] == [7 * STATE, 8 * STATE]


def test_csv_ends_with_the_run(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, config, "--over", "depth=2,4", "--measure", "--format", "csv").splitlines()
    assert lines[0].endswith("refused,device,predicted,seen,error,not_run")
    assert all(line.split(",")[-5] == "cpu" for line in lines[1:])


def test_the_picture_has_a_line_and_dots_for_each_method(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "depth.svg"
    said(
        capsys,
        config,
        "--over",
        "depth=2,4",
        "--over",
        "method=manual,autograd",
        "--measure",
        "--out",
        str(out),
    )
    drawn = ElementTree.parse(out).getroot()
    words = {element.text for element in drawn.iter() if element.tag.endswith("text")}
    assert {"manual", "manual, seen", "autograd", "autograd, seen", "depth"} <= words
    assert sum(element.tag.endswith("circle") for element in drawn.iter()) == 2 + 2 * 2


def test_what_cannot_be_run_is_said_beside_what_can(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    huge = ("--over", "width=16,1048576", "--measure")
    told = json.loads(said(capsys, config, *huge, "--format", "json"))
    assert [run["seen"] is None for run in told["runs"]] == [False, True]
    text = said(capsys, config, *huge)
    assert "not run" in text
    assert "Not run:" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--over", "depth=2,4", "--component", "states"), "--component is for --measure"),
        (("--over", "depth=2,4", "--measure", "--component", "stetes"), "did you mean states"),
    ],
)
def test_components_that_make_no_sense(
    config: str, arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", config, *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_words_alone_make_a_table_and_no_picture(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--over", "method=manual,autograd", "--measure")
    assert "autograd" in said(capsys, config, *words)
    assert main(["sweep", config, *words, "--out", str(tmp_path / "words.svg")]) == 2
    assert "an axis of growing numbers" in capsys.readouterr().err
