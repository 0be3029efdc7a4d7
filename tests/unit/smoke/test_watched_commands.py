"""``memplan watch`` between a command and the world: streams, signals, the terminal, and what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="the kernel tells no PSS"
)

ROOT = Path(__file__).resolve().parents[3]
PRELUDE = "import os, sys, time\n"


@dataclass
class Running:
    """A watch under way, and where it writes its record."""

    process: subprocess.Popen[str]
    folder: Path

    def child(self) -> int:
        """The process id that the command wrote down, once it has."""
        told = self.folder / "ready"
        wait(lambda: told.exists() and told.read_text(encoding="ascii").endswith("\n"))
        return int(told.read_text(encoding="ascii"))

    def done(self) -> tuple[int, dict[str, Any]]:
        """The exit code and the record."""
        self.process.communicate(timeout=30)
        return self.process.returncode, json.loads((self.folder / "record.json").read_text(encoding="utf-8"))


def wait(until: Callable[[], bool]) -> None:
    for _ in range(3000):
        if until():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def started(folder: Path, code: str, *options: str, **settings: Any) -> Running:
    ready = f"open({str(folder / 'ready')!r}, 'w').write(f'{{os.getpid()}}\\n')\n"
    script = PRELUDE + code.replace("READY\n", ready)
    watch = [sys.executable, "-m", "memplan", "watch", "--out", str(folder / "record.json")]
    settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
    process = subprocess.Popen(
        [*watch, *options, "--", sys.executable, "-c", script],
        cwd=ROOT,
        text=True,
        **settings,
    )
    return Running(process, folder)


def test_streams_are_the_commands_own(tmp_path: Path) -> None:
    copy = "sys.stdout.write(sys.stdin.read()); sys.stderr.write('careful\\n')"
    running = started(tmp_path, copy, stdin=subprocess.PIPE)
    out, err = running.process.communicate("in\r\nand out", timeout=30)
    assert out == "in\nand out"
    assert err.startswith("careful\n")
    assert "exit code 0" in err


def test_other_open_files_are_passed_to_the_command(tmp_path: Path) -> None:
    path = tmp_path / "third"
    with path.open("wb") as third:
        code = f"os.write({third.fileno()}, b'here')"
        assert started(tmp_path, code, pass_fds=[third.fileno()]).done()[0] == 0
    assert path.read_bytes() == b"here"


def test_ctrl_c_reaches_the_command_once(tmp_path: Path) -> None:
    count = "import signal; n = []; signal.signal(signal.SIGINT, lambda *_: n.append(1))\nREADY\n"
    running = started(
        tmp_path, count + "while not n: time.sleep(0.01)\ntime.sleep(0.2); sys.exit(40 + len(n))"
    )
    running.child()
    running.process.send_signal(signal.SIGINT)
    assert running.done()[0] == 41


def test_a_second_ctrl_c_kills_everything(tmp_path: Path) -> None:
    told = tmp_path / "told"
    stubborn = (
        "import signal, subprocess\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '60'])\n"
        f"signal.signal(signal.SIGINT, lambda *_: open({str(told)!r}, 'w').close())\n"
    )
    running = started(tmp_path, stubborn + "READY\ntime.sleep(60)")
    child = running.child()
    family = [child, *(process.pid for process in psutil.Process(child).children())]
    assert len(family) == 2
    running.process.send_signal(signal.SIGINT)
    wait(told.exists)
    assert not any(map(is_gone, family))
    running.process.send_signal(signal.SIGINT)
    assert running.done()[0] == 137
    assert all(map(is_gone, family))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_other_signals_are_passed_on(tmp_path: Path, number: signal.Signals) -> None:
    leave = f"import signal; signal.signal({int(number)}, lambda *_: sys.exit(50))\nREADY\ntime.sleep(60)"
    running = started(tmp_path, leave)
    running.child()
    running.process.send_signal(number)
    assert running.done()[0] == 50


def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = started(tmp_path, "READY\nos.kill(os.getppid(), 1); os.kill(os.getpid(), 1); sys.exit(3)")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert running.done()[0] == 3


def test_when_memplan_is_killed_the_command_is_ended(tmp_path: Path) -> None:
    running = started(tmp_path, "READY\ntime.sleep(60)")
    child = running.child()
    running.process.kill()
    running.process.communicate(timeout=30)
    wait(lambda: is_gone(child))


TERMINAL = """\
import os, sys
os.setsid()
for stream in (0, 1, 2): os.dup2(os.open(sys.argv[1], os.O_RDWR), stream)
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_command_may_talk_to_the_terminal_and_gets_its_ctrl_c_once(tmp_path: Path) -> None:
    ask = "import signal; n = []; signal.signal(signal.SIGINT, lambda *_: n.append(1))\nREADY\n"
    answer = "said = input('name? ')\nwhile not n: time.sleep(0.01)\n"
    answer += "time.sleep(0.2)\nsys.exit(60 + len(n) + len(said))"
    master, slave = os.openpty()
    record = str(tmp_path / "record.json")
    watch = [sys.executable, "-m", "memplan", "watch", "--out", record, "--", sys.executable, "-c"]
    script = PRELUDE + (ask + answer).replace(
        "READY\n", f"open({str(tmp_path / 'ready')!r}, 'w').write(f'{{os.getpid()}}\\n')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, os.ttyname(slave), *watch, script], cwd=ROOT, text=True
    )
    Running(process, tmp_path).child()
    os.write(master, b"Ada\n")
    time.sleep(0.2)
    os.write(master, b"\x03")
    code = process.wait(timeout=30)
    screen = os.read(master, 2**16).decode()
    os.close(slave)
    os.close(master)
    assert (code, "name? " in screen) == (64, True)


def test_ctrl_c_ends_an_attached_watch_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        watch = [sys.executable, "-m", "memplan", "watch", "--pid", str(process.pid), "--live"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(watch, cwd=ROOT, text=True, **pipes) as watching:
            assert watching.stderr is not None
            assert "RSS" in watching.stderr.readline()
            watching.send_signal(signal.SIGINT)
            out = watching.communicate(timeout=30)[0]
        assert (watching.returncode, process.poll()) == (0, None)
        assert "it still runs" in out
        process.kill()
