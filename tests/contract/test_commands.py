from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from memplan.cli import main
from memplan.cli.commands import COMMANDS
from memplan.reporters import REPORTERS

FOLDER = Path(import_module("memplan.cli").__file__ or "").parent
SHARED_PARTS = {
    *("__init__", "application", "coercion", "commands", "job", "options", "output", "prediction"),
    *("measuring", "own_model", "progress", "ranks", "runs", "target"),
}
HEAVY = ("torch", "transformers", "pydantic", "rich", "pynvml", "yaml", "tree_sitter")


def test_the_tuple_of_commands_and_the_folder_agree() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} - SHARED_PARTS == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"memplan {command}" in text.split("Examples:")[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_json_and_only_known_formats(command: str) -> None:
    formats = {str(item) for item in import_module(f"memplan.cli.{command}").Format}
    assert {"terminal", "json"} <= formats <= set(REPORTERS)


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = f"import sys, memplan.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["gpus"], ["gpus", "show", "gtx1650"], ["profiles"]], ids=" ".join)
def test_running_a_command_loads_neither_pydantic_nor_rich(arguments: list[str]) -> None:
    code = (
        f"import sys; from memplan.cli import main; main({arguments!r});"
        "print(sorted({'pydantic', 'rich', 'torch', 'yaml'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
