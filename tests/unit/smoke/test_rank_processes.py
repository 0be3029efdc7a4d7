"""The processes of a distributed run: who is blamed, and that nothing is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from memplan.domain.errors import RunError
from memplan.domain.workload import Workload
from memplan.families import architecture
from memplan.smoke.ranks import launch
from memplan.smoke.ranks.job import Job
from tests.unit.smoke.pretended_rank import DONE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and sessions are those of POSIX")

PRETENDED = "tests.unit.smoke.pretended_rank"
ROOT = Path(__file__).resolve().parents[3]
TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}

STARTER = """\
import sys
from memplan.smoke.ranks import launch
from tests.unit.smoke.test_rank_processes import PRETENDED, job
launch.WORKER = PRETENDED
launch.launch(job(2, 600))
"""


def job(world: int, patience: float = 60) -> Job:
    workload = Workload(model=architecture(TINY, lambda _: None))
    return Job(workload=workload, steps=1, world=world, patience=patience)


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, *behaviours: str) -> None:
    monkeypatch.setattr(launch, "WORKER", PRETENDED)
    monkeypatch.setattr(launch, "GRACE", 0.3)
    monkeypatch.setenv("PRETENDED", ",".join(behaviours))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


def wait(met: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not met():
        assert time.monotonic() < until
        time.sleep(0.01)


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children(recursive=True)]


def test_what_every_rank_held_comes_back_in_their_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, "done", "done", "done")
    told: list[int] = []
    assert launch.launch(job(3), told.append) == (DONE, DONE, DONE)
    assert told[-1] == 3
    assert told == sorted(told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("behaviours", "said"),
    [
        (("hanging", "killed"), "rank 1 of 2 was killed by SIGKILL"),
        (("lost", "killed"), "rank 1 of 2 was killed by SIGKILL"),
        (("hanging", "quitting"), "rank 1 of 2 ended with exit code 3: the driver is too old"),
        (("lost", "short", "lost"), "rank 1 of 3 was out of memory: can't allocate memory"),
        (("lost", "broken"), "rank 1 of 2 failed: ValueError: no such width (model.py:7)"),
    ],
)
def test_the_rank_that_failed_first_is_named_with_its_reason(
    behaviours: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, *behaviours)
    before = children()
    with pytest.raises(RunError) as raised:
        launch.launch(job(len(behaviours)))
    assert raised.value.message == said
    assert raised.value.exit_code == 1
    assert children() == before
    assert list(tmp_path.iterdir()) == []


def test_ranks_that_take_too_long_are_ended_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, "hanging", "hanging")
    before = children()
    with pytest.raises(RunError, match="rank 0 and rank 1 did not finish"):
        launch.launch(job(2, patience=0.5))
    assert children() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "leaves"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGKILL, True)]
)
def test_a_run_that_is_broken_off_leaves_no_process_behind(
    number: signal.Signals, leaves: bool, tmp_path: Path
) -> None:
    environment = {**os.environ, "PRETENDED": "hanging,hanging", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", STARTER], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    ) as starter:
        wait(lambda: len(list(tmp_path.glob("memplan-*/started*"))) == 2)
        ranks = psutil.Process(starter.pid).children(recursive=True)
        assert len(ranks) == 2
        starter.send_signal(number)
        assert starter.wait(30) != 0
    psutil.wait_procs(ranks, timeout=30)
    assert [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE] == []
    # Nobody can clean up after SIGKILL but the system, which empties the folder of temporary files.
    assert bool(list(tmp_path.iterdir())) == leaves
