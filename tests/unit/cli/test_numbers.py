"""Whole numbers on the command line are converted without pydantic, and refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memplan.cli import main

CONFIG = str(Path(__file__).resolve().parents[3] / "examples" / "llama-3.1-8b")


@pytest.mark.parametrize(
    ("text", "message"), [("0", "0 is less than 1"), ("two", "'two' is not a whole number")]
)
def test_a_number_of_gpus_that_is_none_is_refused(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", CONFIG, "--gpus", text]) == 2
    assert message in capsys.readouterr().err


def test_starting_with_a_number_of_gpus_loads_no_pydantic() -> None:
    code = (
        "import sys; from memplan.cli import main\n"
        f"main(['estimate', {CONFIG!r}, '--gpus', '1', '--gpu', 'h100-sxm', '--format', 'json'])\n"
        "sys.stderr.write(str('pydantic' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.endswith("False")
