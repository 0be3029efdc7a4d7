"""What ``watch`` measures of scripts that take known amounts, and how they ended."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from memplan.domain.errors import InputError
from memplan.domain.watched import Moment, Watched
from memplan.smoke.watch import attach, launch, resident, watch

MIB = 2**20
PRELUDE = """\
import mmap, os, subprocess, sys, time
def touch(memory):
    for place in range(0, len(memory), 4096):
        memory[place] = 1
    return memory
def tell(phase):
    with open(os.environ["MEMPLAN_PHASES"], "a") as phases:
        phases.write(phase + "\\n")
def hold(stage=1):
    open(f"{gate}/{stage}-{os.getpid()}", "w").close()
    while not os.path.exists(f"{gate}/open-{stage}"):
        time.sleep(0.005)
"""
"""``hold`` waits until it was looked at a few times."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="the kernel tells no PSS"
)


class Gate:
    """Opens stage by stage, when all who wait at it were looked at."""

    LOOKS = 3

    def __init__(self, folder: Path, crowds: tuple[int, ...]) -> None:
        self.folder = folder
        self.crowds = list(enumerate(crowds, 1))
        self.looks = 0

    def __call__(self, moment: Moment) -> None:
        if not self.crowds:
            return
        stage, crowd = self.crowds[0]
        self.looks += len(list(self.folder.glob(f"{stage}-*"))) == crowd
        if self.looks == self.LOOKS:
            (self.folder / f"open-{stage}").touch()
            self.looks = 0
            del self.crowds[0]


def ran(code: str, *crowds: int, leave: bool = False, interval: float = 0.01) -> Watched:
    """A script watched; so many of its processes ``hold`` at stage 1, 2 and so on."""
    with tempfile.TemporaryDirectory() as folder:
        script = f"gate = {folder!r}\n{PRELUDE}{code}"
        gate = Gate(Path(folder), crowds)
        return watch([sys.executable, "-c", script], interval=interval, leave=leave, observer=gate)


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Walks pages at every look, however slow this machine is."""
    monkeypatch.setattr(resident, "PATIENCE", 0)


@pytest.fixture(scope="module")
def interpreter() -> int:
    """What the interpreter holds by itself."""
    return ran("hold()", 1).held.bytes


@pytest.mark.parametrize(
    "allocation", ["bytearray(96 * 2**20)", "mmap.mmap(-1, 96 * 2**20)"], ids=["private", "shared"]
)
def test_what_a_script_allocates_is_what_is_measured(interpreter: int, allocation: str) -> None:
    found = ran(f"kept = touch({allocation})\nhold()", 1)
    assert found.held.bytes - interpreter == pytest.approx(96 * MIB, rel=0.02)
    assert found.rss.bytes >= found.held.bytes
    assert found.shared_once
    assert found.gpus == ()


def test_pages_that_forked_processes_share_count_once_and_their_own_for_each(interpreter: int) -> None:
    found = ran(
        "kept = touch(bytearray(64 * 2**20))\n"
        "for _ in range(3):\n"
        "    if not os.fork():\n"
        "        own = touch(bytearray(16 * 2**20))\n"
        "        hold()\n"
        "        os._exit(0)\n"
        "hold()\n",
        4,
    )
    # Each interpreter also writes to pages that it shares: reference counts.
    assert 112 * MIB <= found.held.bytes <= 112 * MIB + 4 * interpreter
    assert found.rss.bytes > 4 * 64 * MIB


def test_the_peak_of_a_very_short_process_is_known(interpreter: int) -> None:
    found = ran("kept = touch(bytearray(2**30))\nos._exit(0)", interval=3600.0)
    # The kernel counts resident pages in batches, a batch per processor (proc_pid_statm(5) calls them
    # inaccurate), and nobody looks twice here: of much memory that is less than the 6 % that are promised.
    assert 1024 * MIB * 94 // 100 <= found.rss.bytes <= 1024 * MIB + 4 * interpreter


def test_of_a_process_too_short_to_be_seen_a_bound_is_told() -> None:
    found = watch(["true"], interval=0.5)
    assert found.ending.code == 0
    assert found.rss.bytes or any("took more than" in note for note in found.notes)


def test_peaks_are_told_by_the_phases_that_the_command_tells() -> None:
    found = ran(
        "tell('load')\nkept = touch(bytearray(32 * 2**20))\nhold(1)\n"
        "tell('train')\nmore = touch(bytearray(64 * 2**20))\nhold(2)\n",
        1,
        1,
    )
    phases = {name: host for name, _, host in found.phases}
    assert list(phases) == ["load", "train"]
    assert found.held.phase == "train"
    assert phases["train"] - phases["load"] == pytest.approx(64 * MIB, rel=0.02)


def test_descendants_are_watched_also_when_their_parent_has_died(interpreter: int) -> None:
    found = ran(
        "if not os.fork():\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        "    kept = touch(bytearray(48 * 2**20))\n"
        "    hold()\n"
        "    os._exit(0)\n"
        "os.wait()\nhold()\n",
        2,
    )
    assert 48 * MIB <= found.held.bytes <= 48 * MIB + 3 * interpreter
    assert found.ending.outlived == ()


@pytest.mark.parametrize(
    ("ending", "code", "name"),
    [
        ("sys.exit(0)", 0, None),
        ("sys.exit(7)", 7, None),
        ("raise SystemExit('wrong')", 1, None),
        ("os.kill(os.getpid(), 9)", 137, "SIGKILL"),
        ("os.kill(os.getpid(), 11)", 139, "SIGSEGV"),
        ("os.abort()", 134, "SIGABRT"),
    ],
)
def test_how_a_command_ended_is_told_as_a_shell_would(ending: str, code: int, name: str | None) -> None:
    found = ran(ending).ending
    assert (found.code, found.signal, found.starved) == (code, name, 0)


ORPHANS = "subprocess.Popen(['sh', '-c', 'sleep 60 & wait'], start_new_session=True)\n"


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_what_outlives_the_command_is_ended_and_named() -> None:
    found = ran(ORPHANS).ending
    assert (found.code, len(found.outlived), found.left) == (0, 2, False)
    assert all(map(is_gone, found.outlived))


def test_what_does_not_want_to_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "PATIENCE", 0.1)
    found = ran(
        "if not os.fork():\n"
        "    import signal\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    hold()\n"
        "    time.sleep(60)\n"
        "hold()\n",
        2,
    ).ending
    assert (found.code, len(found.outlived), found.left) == (0, 1, False)
    assert all(map(is_gone, found.outlived))


def test_what_outlives_the_command_is_left_when_asked() -> None:
    found = ran(ORPHANS, leave=True).ending
    assert (found.code, len(found.outlived), found.left) == (0, 2, True)
    assert not any(map(is_gone, found.outlived))
    for pid in found.outlived:
        os.kill(pid, signal.SIGKILL)


def test_processes_that_were_there_before_are_left_alone() -> None:
    with psutil.Popen(["sleep", "60"]) as mine:
        assert ran("hold()", 1).ending.outlived == ()
        assert mine.poll() is None
        mine.kill()


@pytest.mark.parametrize(
    ("name", "why"),
    [("no-such-program", "no such file"), ("./plain.txt", "permission denied"), ("./empty", "exec format")],
)
def test_what_cannot_be_run_is_refused_with_the_reason(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.txt").write_text("text", encoding="ascii")
    Path("empty").write_bytes(b"\x00\x01")
    Path("empty").chmod(0o755)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(InputError, match=f"cannot be run: .*{why}") as caught:
        watch([name])
    assert caught.value.hint
    assert signal.getsignal(signal.SIGINT) is before


def test_a_process_that_runs_is_watched_to_its_end_with_what_it_started() -> None:
    script = "child = os.fork()\nkept = touch(bytearray(32 * 2**20))\nprint(flush=True)\nsys.stdin.read()\n"
    with psutil.Popen([sys.executable, "-c", PRELUDE + script], stdin=-1, stdout=-1) as process:
        for _ in range(2):
            process.stdout.readline()

        def end(moment: Moment) -> None:
            process.stdin.close()

        found = attach(process.pid, interval=0.02, observer=end)
    assert found.held.bytes >= 64 * MIB
    assert (found.pid, found.ending.code, found.command[0]) == (process.pid, None, sys.executable)


def test_a_process_that_does_not_run_is_refused() -> None:
    with pytest.raises(InputError, match="no process 4194304 runs here"):
        attach(2**22)


def test_every_look_is_told(tmp_path: Path) -> None:
    moments: list[Moment] = []
    gate = Gate(tmp_path, (1,))

    def observe(moment: Moment) -> None:
        moments.append(moment)
        gate(moment)

    script = f"gate = {str(tmp_path)!r}\n{PRELUDE}kept = touch(bytearray(2**25))\nhold()"
    found = watch([sys.executable, "-c", script], interval=0.01, observer=observe)
    assert found.looks == len(moments) >= Gate.LOOKS
    assert [moment.seconds for moment in moments] == sorted(moment.seconds for moment in moments)
    assert max(moment.rss for moment in moments) > 2**25


def test_trouble_with_watching_is_told_and_does_not_end_the_command() -> None:
    def broken(moment: Moment) -> None:
        raise OSError("the terminal is gone")

    found = watch([sys.executable, "-c", "raise SystemExit(5)"], interval=0.02, observer=broken)
    assert found.ending.code == 5
    assert "not every look succeeded: OSError: the terminal is gone" in found.notes
