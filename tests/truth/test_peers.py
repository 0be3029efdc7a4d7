"""Rows as other estimators are asked about them. None of these tools is needed here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peers_cases import Case
from benchmarks.peers_results import Answer, Result, run
from benchmarks.peers_tables import markdown, quoted
from benchmarks.peers_tools import TOOLS, Call, Figures


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return peers.covered()


def test_every_tool_is_asked_about_some_rows_with_what_the_row_declares(
    cases: list[Case], tmp_path: Path
) -> None:
    for tool in TOOLS:
        asked = [case for case in cases if tool.obstacle(case) is None]
        assert asked, tool.name
        for case in asked:
            call = tool.call(case, tmp_path / "bin", tmp_path)
            assert Path(call.arguments[0]).parent == tmp_path / "bin"
    vramcalc, fitcheck = TOOLS[1], TOOLS[2]
    lora = next(case for case in cases if case.workload.adapter and not case.workload.quantization)
    assert "--lora" in vramcalc.call(lora, tmp_path, tmp_path).arguments
    arguments = fitcheck.call(lora, tmp_path, tmp_path).arguments
    assert arguments[arguments.index("--lora-targets") + 1] == "q_proj,k_proj,v_proj,o_proj"


def test_versions_are_pinned_and_torch_is_named_before_what_needs_it() -> None:
    for tool in TOOLS:
        for step in tool.steps:
            names = [name for name in step if not name.startswith("-")]
            assert all("==" in name for name in names), step
        if any(re.match("accelerate|deepspeed", name) for name in tool.packages):
            assert tool.steps[0][0].startswith("torch==")


def test_answers_are_read_from_what_the_tools_print() -> None:
    assert TOOLS[1].read(json.dumps({"estimate": {"total": 7, "overhead": 2}})) == Figures(
        allocated=7, process=9
    )
    parts = {"weights": 1.0, "lora": 0.5, "optimizer": 0.25, "gradients": 0.25, "activations": 2.0}
    printed = json.dumps({"memory_mib": parts | {"overhead": 1.0, "total": 5.0}})
    assert TOOLS[2].read(printed) == Figures(allocated=4 * 2**20, process=5 * 2**20)
    assert TOOLS[3].read("a warning\n12\n") == Figures(allocated=12)


def test_a_command_that_fails_is_no_answer() -> None:
    with pytest.raises(subprocess.CalledProcessError, match="exit status 2"):
        run(Call(arguments=(sys.executable, "-c", "raise SystemExit(2)")))
    printed, seconds = run(Call(arguments=(sys.executable, "-c", "print(1); raise SystemExit(1)")))
    assert (printed, seconds > 0) == ("1\n", True)


def test_the_tables_name_what_could_not_be_asked_or_installed(cases: list[Case]) -> None:
    case = cases[0]
    measured = case.measured("max_memory_allocated")
    assert measured is not None
    found = [
        Result(tool=TOOLS[0], answers=(Answer(case=case, figures=Figures(allocated=measured * 2)),)),
        Result(tool=TOOLS[1], answers=(Answer(case=case, obstacle="no quantized weights"),)),
        Result(tool=TOOLS[2], missing="no such release"),
    ]
    told = markdown(found, date(2026, 1, 2))
    assert "| memplan | 1 | 100.00 % | 100.0 % |" in told
    assert "- vramcalc cannot express 1 row: no quantized weights." in told
    assert "- fitcheck-llm could not be installed: no such release" in told
    assert quoted("a\n<!-- peers -->\nold\n<!-- /peers -->\nb", told).startswith(
        "a\n<!-- peers -->\nRun on 2026"
    )


def test_the_readme_has_the_tables() -> None:
    (table,) = re.findall(r"<!-- peers -->\n(.*?)<!-- /peers -->", peers.README.read_text("utf-8"), re.DOTALL)
    for tool in TOOLS:
        assert tool.name in table
        assert all(name.replace("==", " ") in table for name in tool.packages)
