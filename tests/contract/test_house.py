"""Rules about the source tree itself."""

from __future__ import annotations

import ast
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from memplan.cli.commands import COMMANDS
from memplan.dialects import DIALECTS
from memplan.levers import LEVERS
from memplan.reporters import REPORTERS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(ROOT.glob("memplan/**/*.py"))
LONGEST_FILE = 300
LONGEST_FUNCTION = 80
BANNED_NAMES = ("utils", "helpers", "common", "misc", "manager")


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def test_no_file_is_longer_than_one_concept() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path, node in functions()
        if (node.end_lineno or node.lineno) - node.lineno >= LONGEST_FUNCTION
    ]
    assert long == []


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    bad = [path for path in SOURCES if path.stem in BANNED_NAMES or path.stem.startswith("base_")]
    assert bad == []


def test_the_shared_data_is_there_when_tests_run_in_ci() -> None:
    folder = Path(os.environ.get("MEMPLAN_SHARED") or ROOT.parent / "shared")
    if not os.environ.get("CI") or os.environ["CI"].lower() in ("0", "false"):
        pytest.skip("only CI must have the shared data; elsewhere the tests that need it skip")
    assert (folder / "truth").is_dir(), f"{folder} is absent, so tests against measured data would be skipped"


def test_every_variant_is_under_the_contract_that_keeps_variants_apart() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = {item["name"]: item for item in settings["tool"]["importlinter"]["contracts"]}
    modules = {name: item["modules"] for name, item in contracts.items() if item["type"] == "independence"}
    assert set(modules["Commands do not know each other"]) == {f"memplan.cli.{name}" for name in COMMANDS}
    assert set(modules["Reporters do not know each other"]) == {
        f"memplan.reporters.{name}" for name in REPORTERS
    }
    levers = {vars(lever)["__name__"] for lever in LEVERS}
    dialects = {f"memplan.dialects.{name}" for name in DIALECTS}
    assert set(modules["Levers do not know each other"]) == levers
    assert set(modules["Dialects do not know each other"]) == dialects


def test_every_program_and_every_runner_in_its_folder_is_listed() -> None:
    from memplan.programs import PROGRAMS
    from memplan.smoke.systems import RUNNERS

    def modules(folder: str) -> set[str]:
        found = (ROOT / "memplan" / folder).glob("*.py")
        return {path.stem for path in found if "NAME = " in path.read_text("utf-8")}

    assert {vars(program)["__name__"].rpartition(".")[2] for program in PROGRAMS} == modules("programs")
    assert [vars(program)["__name__"].rpartition(".")[2] for program in PROGRAMS] == [
        program.NAME for program in PROGRAMS
    ]
    assert set(RUNNERS) == modules("smoke/systems")
