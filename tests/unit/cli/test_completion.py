"""Shell completion: what a shell asks, and what it is told."""

from __future__ import annotations

import os
import subprocess
import sys


def completed(words: str, place: int) -> list[str]:
    """What a bash that asks for completions of a command line is answered."""
    asked = {"_MEMPLAN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
    command = [sys.executable, "-c", "from memplan.cli import main; raise SystemExit(main([]))"]
    return subprocess.run(command, env=os.environ | asked, capture_output=True, text=True).stdout.split()


def test_a_shell_completes_commands() -> None:
    assert completed("memplan e", 1) == ["estimate", "explain"]


def test_a_shell_completes_options() -> None:
    assert "--profile" in completed("memplan fit train.yml --pro", 3)
