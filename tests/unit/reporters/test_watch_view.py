"""The report of ``memplan watch`` about runs that no test can have: several GPUs, kernels that kill."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memplan.domain.bytes import Bytes
from memplan.domain.watched import Bound, Ending, GpuUse, Moment, Peak, Prediction, Watched, within
from memplan.reporters import terminal
from memplan.reporters.views.watch import line, payload, report

GIB = 2**30


def gib(amount: float) -> Bytes:
    return Bytes(int(amount * GIB))


def used(index: int, amount: float) -> GpuUse:
    return GpuUse(
        index=index,
        name="Tesla T4",
        peak=Peak(bytes=gib(amount), seconds=61.0, phase="backward"),
        attributed=True,
    )


WATCHED = Watched(
    command=("python", "train.py"),
    pid=4711,
    seconds=700.0,
    interval=0.5,
    looks=1400,
    gpus=(used(0, 10), used(1, 12)),
    rss=Peak(bytes=gib(7), seconds=12.0),
    held=Peak(bytes=gib(5), seconds=11.0),
    shared_once=True,
    phases=(),
    first_on_gpu=9.0,
    ending=Ending(code=0),
)
PREDICTION = Prediction(
    source="train.yml",
    gpu="t4",
    limit=gib(14.5),
    process=Bound(predicted=gib(11.5), low=gib(11), high=gib(12.5)),
    host=Bound(predicted=gib(5), low=gib(4), high=gib(6)),
)


def text(watched: Watched, prediction: Prediction | None = PREDICTION) -> str:
    return terminal.plain(report(watched, prediction))


def rows(said: str) -> dict[str, list[str]]:
    found = [entry.split("  ") for entry in said.splitlines() if entry.startswith("  ")]
    return {row[1].strip(): [cell.strip() for cell in row[2:] if cell.strip()] for row in found}


def test_the_fullest_gpu_is_held_against_the_prediction_of_one() -> None:
    said = rows(text(WATCHED))
    assert said["GPU 0 Tesla T4"] == ["10.0 GiB", "61.0 s, backward", "-", "-"]
    assert said["GPU 1 Tesla T4"] == [
        "12.0 GiB",
        "61.0 s, backward",
        "11.5 GiB",
        "11.0 GiB to 12.5 GiB",
        "within",
    ]
    assert said["RAM held"] == ["5.00 GiB", "11.0 s", "5.00 GiB", "4.00 GiB to 6.00 GiB", "within"]
    assert "exit code 0 after 0:11:40, within the prediction" in text(WATCHED)
    assert "2.50 GiB left of 14.5 GiB" in text(WATCHED)


@pytest.mark.parametrize(
    ("changes", "passed", "said"),
    [
        ({"gpus": (used(0, 13),)}, False, "512 MiB above"),
        ({"gpus": (used(0, 10),)}, True, "1.00 GiB below"),
        ({"held": Peak(bytes=gib(6.5), seconds=1.0)}, False, "512 MiB above"),
        ({"gpus": (used(0, 15),)}, False, "512 MiB more than there is of 14.5 GiB"),
        ({"gpus": ()}, None, "not compared with train.yml: that is for a run on a GPU, and none was used"),
    ],
)
def test_every_peak_is_judged_by_its_own_bounds(
    changes: dict[str, Any], passed: bool | None, said: str
) -> None:
    watched = replace(WATCHED, **changes)
    assert within(watched, PREDICTION) is passed
    assert payload(watched, PREDICTION)["passed"] is passed
    assert said in text(watched)


def test_a_prediction_without_an_upper_bound_fails_nothing() -> None:
    unbounded = replace(PREDICTION, process=Bound(predicted=gib(9), low=gib(8), high=None), host=None)
    assert within(WATCHED, unbounded) is None
    assert "unbounded" in text(WATCHED, unbounded)
    assert "no upper bound on the GPU" in text(WATCHED, unbounded)


def test_a_prediction_for_no_gpu_says_nothing_of_the_gpu() -> None:
    nameless = replace(PREDICTION, gpu=None, limit=None, process=None)
    assert within(WATCHED, nameless) is True
    assert "add --gpu NAME" in text(WATCHED, nameless)


def test_how_it_ended_is_told() -> None:
    starved = replace(WATCHED, ending=Ending(code=137, signal="SIGKILL", starved=1, outlived=(8, 9)))
    said = text(starved, None)
    assert "killed by SIGKILL after 0:11:40" in said
    assert "the kernel killed a process of this machine meanwhile: memory ran out" in said
    assert "2 processes outlived it, ended by memplan: 8, 9" in said
    left = replace(WATCHED, ending=Ending(code=0, outlived=(8,), left=True))
    assert "1 process outlived it, still running: 8" in text(left)


def test_commands_are_shown_short_and_without_control_characters() -> None:
    told = text(replace(WATCHED, command=("python", "-c", "\x1b[31m\n" + "x" * 200))).splitlines()[0]
    assert "\x1b" not in told
    assert len(told.partition(": ")[0]) <= 80


def test_a_live_line_has_the_time_the_bound_and_the_phase() -> None:
    moment = Moment(seconds=3725.4, gpus=((1, gib(2)),), rss=gib(3), phase="load")
    assert line(moment, PREDICTION) == "1:02:05  GPU 1 2.00 GiB of at most 12.5 GiB, RSS 3.00 GiB, load"
    assert line(moment, None) == "1:02:05  GPU 1 2.00 GiB, RSS 3.00 GiB, load"
