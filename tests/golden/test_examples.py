"""Every example is run as a stranger would run it, and the README quotes only what was printed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.cli.test_watch import EXAMPLES as WATCHED

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transcripts", ROOT / "examples" / "transcripts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


transcripts = load()
CASES = {case.name: case for case in transcripts.cases()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_example_prints_exactly_what_it_says(case: Path, tmp_path: Path) -> None:
    expected = (case / "expected.txt").read_text(encoding="utf-8")
    assert transcripts.transcript(case, tmp_path) == expected


def test_the_demo_leaves_its_copy_fitting_and_the_example_alone(tmp_path: Path) -> None:
    command = tmp_path / "memplan"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m memplan "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    before = (ROOT / "examples/neurogen/train_slimpajama.py").read_bytes()
    done = subprocess.run(
        ["sh", str(ROOT / "examples" / "demo.sh")],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    verdicts = re.findall(r"^examples/neurogen on gtx1650: (does not fit|fits)", done.stdout, re.MULTILINE)
    assert verdicts == ["does not fit", "fits", "fits", "fits"]
    assert (ROOT / "examples/neurogen/train_slimpajama.py").read_bytes() == before


def test_the_readme_quotes_the_examples_as_they_are() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- example " in text
    assert transcripts.quoted(text) == text


@pytest.mark.parametrize("document", ["README.md"])
def test_every_command_a_document_shows_is_run_by_an_example(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    fenced = "".join(re.findall(r"^```(?:console|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    shown = set(re.findall(r"^(?:\$ )?(memplan [^#\n]*[^#\s])", fenced, re.MULTILINE))
    run = {command for case in CASES.values() for command in transcripts.commands(case)}
    # What is said of a watched process differs from run to run; these are run where that is looked at.
    run |= {f"memplan {arguments}" for arguments in WATCHED}
    assert shown
    assert shown - run == set()
