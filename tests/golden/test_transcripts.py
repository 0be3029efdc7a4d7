"""What a command that measures prints, with the figures covered that the next run has otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.test_examples import transcripts

SAID = """\
run.yml: as predicted ({peak} seen, {peak} predicted)

  peak       predicted      seen     error
  load        9.94 MiB  9.94 MiB  +0.000 %
  allocated   {peak}  {peak}  -0.000 %

  resident   predicted      seen     error
  load         {rss}  {rss}  -0.108 %
  forward     {rss}  {rss}  +11.764 %

The measurement:
  3 optimizer steps with torch {release} and transformers {release} on one thread
  {rss} were resident before the model was loaded
"""
WATCHED = """\
python train.py: exit code 0 after {seconds} s

                             peak         after
  RAM held                {rss}  {seconds} s, train
  RSS, with mapped files  {rss}  {seconds} s, train

  phase  fullest GPU  RAM held
  load             -   {rss}

What this rests on:
  looked {looks}, every 0.5 s: what came and went in between was not seen
{machine}"""


def said(**figures: str) -> str:
    usual = {"peak": "50.2 MiB", "rss": "373 MiB", "release": "2.13.0", "seconds": "1.6", "looks": "9 times"}
    absent = "  host memory only: no NVIDIA GPU can be seen on this machine\n"
    found = {**usual, "machine": absent, **figures}
    return str(transcripts.masked(SAID.format(**found) + "\n" + WATCHED.format(**found)))


@pytest.mark.parametrize(
    "figures",
    [
        {"rss": "1.02 GiB"},
        {"release": "2.14.0a0+git12ab"},
        {"seconds": "61.25"},
        {"looks": "once"},
        {"machine": ""},
    ],
    ids=str,
)
def test_what_differs_from_run_to_run_is_covered(figures: dict[str, str]) -> None:
    assert said(**figures) == said()


def test_allocated_bytes_are_not() -> None:
    assert said(peak="50.3 MiB") != said()
    assert "  allocated   50.2 MiB  50.2 MiB  -0.000 %\n" in said()


def test_covering_twice_is_covering_once() -> None:
    assert transcripts.masked(said()) == said()


@given(st.lists(st.text("abc 0123456789.%", max_size=30), max_size=8))
def test_text_without_units_stays_as_it_is(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    assert transcripts.masked(text) == text


def test_a_mark_covers_what_a_command_prints_and_is_not_part_of_it(tmp_path: Path) -> None:
    case = tmp_path / "case"
    case.mkdir()
    (case / "command.txt").write_text("memplan gpus --help\n~ memplan watch -- python -c 1\n")
    work = tmp_path / "work"
    text = transcripts.transcript(case, work)
    assert transcripts.commands(case) == ["memplan gpus --help", "memplan watch -- python -c 1"]
    assert "\n$ memplan watch -- python -c 1\npython -c 1: exit code 0 after «…»\n" in text
