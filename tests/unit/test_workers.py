"""The same results in the same order, however many processes there are; and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from typing import TypeVar

import pytest

from memplan.fit.workers import FEW, each

ROOT = Path(__file__).resolve().parents[2]
Found = TypeVar("Found")
CALLS = [(number,) for number in range(FEW + 3)]


def square(number: int) -> tuple[int, int]:
    """Its square, and who worked it out."""
    return number * number, os.getpid()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise LookupError("three")
    return number


def die_elsewhere(number: int, home: int) -> int:
    if os.getpid() != home:
        os._exit(7)
    return number


def squares(workers: int) -> list[int]:
    return [result for result, _ in each(square, CALLS, workers=workers)]


def test_the_number_of_processes_changes_nothing() -> None:
    assert squares(1) == squares(2) == [number * number for (number,) in CALLS]


def test_several_processes_work_and_are_gone_afterwards() -> None:
    workers = {process for _, process in each(square, CALLS, workers=2)}
    assert os.getpid() not in workers
    assert active_children() == []


def test_few_calls_are_made_here() -> None:
    assert {process for _, process in each(square, CALLS[: FEW - 1])} == {os.getpid()}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_result_advances_once(workers: int) -> None:
    done: list[None] = []
    each(square, CALLS, workers=workers, advance=lambda: done.append(None))
    assert len(done) == len(CALLS)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_call_raises_is_raised_and_nobody_is_left(workers: int) -> None:
    with pytest.raises(LookupError, match="three"):
        each(fail_at_three, CALLS, workers=workers)
    assert active_children() == []


def test_the_calls_of_a_process_that_dies_are_made_here() -> None:
    assert each(die_elsewhere, [(number, os.getpid()) for number in range(3)], workers=2) == [0, 1, 2]
    assert active_children() == []


def test_no_calls_have_no_results() -> None:
    assert each(square, []) == []


SLEEPERS = """\
import sys, time
sys.path.insert(0, {folder!r})
from memplan.fit.workers import each
from sleeper import sleep
if __name__ == "__main__":
    print(each(sleep, [({folder!r},)] * 2, workers=2))
"""
SLEEPER = """\
import os, time
from pathlib import Path
def sleep(folder):
    Path(folder, f"{os.getpid()}.pid").touch()
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_processes_end_with_the_one_that_started_them(kind: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER, encoding="utf-8")
    (tmp_path / "main.py").write_text(SLEEPERS.format(folder=str(tmp_path)), encoding="utf-8")
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    main = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    pids = [int(name.stem) for name in eventually(lambda: sorted(tmp_path.glob("*.pid")), 2)]
    os.kill(main.pid, kind)
    main.wait(timeout=20)
    assert eventually(lambda: [pid for pid in pids if not alive(pid)], 2) == pids


def eventually(look: Callable[[], list[Found]], count: int) -> list[Found]:
    """What a look finds, once it finds so many."""
    for _ in range(400):
        if len(found := look()) == count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"never {count}")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
