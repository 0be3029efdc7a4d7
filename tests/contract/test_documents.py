"""Documents against what they speak of."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import formulas
from memplan.dialects import DIALECTS
from memplan.families import FAMILIES
from memplan.levers import LEVERS
from memplan.programs import names

ROOT = Path(__file__).resolve().parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(r"^\d\. `([^`]+)`", re.MULTILINE)

EXAMPLES = {
    "Add a family in five steps": "qwen3",
    "Add a dialect": "axolotl",
    "Add a lever": "checkpointing",
    "Add a mechanism": "equilibrium_propagation",
}
"""One of each that went through every step."""


def steps(title: str) -> list[str]:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return STEP.findall(found[1])


def test_the_examples_are_of_the_kinds_they_stand_for() -> None:
    family, dialect, lever, mechanism = EXAMPLES.values()
    assert family in FAMILIES
    assert dialect in DIALECTS
    assert lever in {item.NAME for item in LEVERS}
    assert mechanism in names()


@pytest.mark.parametrize("title", EXAMPLES)
def test_every_step_of_contributing_was_taken_for_what_is_there(title: str) -> None:
    name = EXAMPLES[title]
    taken = steps(title)
    assert len(taken) >= 4
    for step in taken:
        place = ROOT / step.replace("NAME", name)
        files = [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else [place]
        assert files, step
        assert "NAME" in step or any(name in path.read_text("utf-8", "replace") for path in files), step


def test_a_family_takes_five_steps() -> None:
    assert len(steps("Add a family in five steps")) == 5


def test_every_file_contributing_names_is_there() -> None:
    named = re.findall(r"`((?:memplan|tests|profiles|benchmarks|examples)/[\w./]+)`", CONTRIBUTING)
    assert named
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    assert missing == []


def test_what_the_readme_imports_is_there() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    imports = [line for line in lines if line.startswith("from memplan")]
    assert len(imports) >= 4
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(imports)], cwd=ROOT, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_pictures_the_documents_show_are_there() -> None:
    for name, folder in (("README.md", ROOT), ("examples/README.md", ROOT / "examples")):
        shown = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / name).read_text(encoding="utf-8"))
        assert len(shown) >= 5
        assert [path for path in shown if not (folder / path).is_file()] == []


def test_formulas_are_those_of_the_simulator() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "formulas.py"), "--check"], check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_formulas_leave_no_module_of_the_simulator_out() -> None:
    told = set(re.findall(r"^### ([\w.]+)$", formulas.document(), re.MULTILINE))
    there = {path.stem for path in formulas.SIMULATOR.glob("*.py")} - {"__init__"}
    assert there <= told


def test_formulas_tell_what_an_op_makes_saves_and_makes_in_backward() -> None:
    text = formulas.document()
    assert (
        "`F.silu(x)`: saves its input.\n\n- makes: `silu`\n- saves: `x`\n- backward makes: `silu_backward`\n"
        in text
    )
    assert "- makes: `gelu`\n- saves: `x`\n- backward makes: `activation_backward`\n" in text
