from __future__ import annotations

from importlib import import_module
from pathlib import Path

from memplan.reporters import REPORTERS

FOLDER = Path(import_module("memplan.reporters").__file__ or "").parent
SHARED_PARTS = {"__init__", "blocks", "remedies", "words", "glossary"}


def test_the_tuple_of_reporters_and_the_folder_agree() -> None:
    modules = {path.stem for path in FOLDER.glob("*.py")} - SHARED_PARTS
    assert modules == set(REPORTERS)


def test_each_reporter_is_called_what_its_file_is_called() -> None:
    names = {name: import_module(f"memplan.reporters.{name}").NAME for name in REPORTERS}
    assert names == {name: name for name in REPORTERS}
