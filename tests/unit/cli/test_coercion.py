from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from memplan.cli import main
from memplan.cli.coercion import PlainValue


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


ONE = SimpleNamespace(multiple=False, nargs=1)
MANY = SimpleNamespace(multiple=True, nargs=1)


def test_text_paths_and_choices_become_what_the_command_asked_for() -> None:
    assert PlainValue(str).coerce("a", ONE, None) == "a"
    assert PlainValue(Path).coerce("a/b", ONE, None) == Path("a/b")
    assert PlainValue(Colour).coerce("red", ONE, None) is Colour.RED


def test_what_was_not_given_is_none_or_no_occurrence() -> None:
    assert PlainValue(str).coerce(None, ONE, None) is None
    assert PlainValue(str).coerce(None, MANY, None) == ()


def test_each_occurrence_is_converted() -> None:
    assert PlainValue(Colour).coerce(("red", "blue"), MANY, None) == [Colour.RED, Colour.BLUE]


def test_a_wrong_choice_names_the_right_ones() -> None:
    with pytest.raises(typer.BadParameter, match="'green' is not one of red, blue"):
        PlainValue(Colour).coerce("green", ONE, None)


def test_a_wrong_format_is_a_usage_error_that_names_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus", "--format", "pdf"]) == 2
    assert "terminal, json, markdown" in capsys.readouterr().err
