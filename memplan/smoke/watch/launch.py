"""A command from its start to the end of its last process."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from memplan.domain.bytes import Bytes
from memplan.domain.watched import Ending, Watched
from memplan.smoke.watch.command import Command, adopt, send
from memplan.smoke.watch.graphics import GpuMeter
from memplan.smoke.watch.phases import VARIABLE, PhaseFile
from memplan.smoke.watch.processes import Processes
from memplan.smoke.watch.session import Observer, Session
from memplan.smoke.watch.signals import Signals

FIRST_PAUSE = 0.005
"""Seconds between the first two looks; pauses double up to the interval, so that short commands are seen."""

GRACE = 0.5
"""Seconds for what a command leaves behind to end by itself, as loader workers and resource trackers do."""

PATIENCE = 3.0
"""Seconds between SIGTERM and SIGKILL."""

LAST = 30.0
"""Seconds after SIGKILL: what still waits within the kernel then, for a driver or a disk, nobody can end."""

_PAUSE = 0.02


def launch(arguments: tuple[str, ...], interval: float, *, leave: bool, observer: Observer | None) -> Watched:
    """Run a command and watch it.

    Raises:
        InputError: it cannot be run.
    """
    import psutil

    with tempfile.TemporaryDirectory(prefix="memplan-") as folder, Signals() as signals, GpuMeter() as gpus:
        told = Path(folder) / "phases"
        told.touch()
        before = {child.pid for child in psutil.Process().children()}
        command = Command(arguments, {**os.environ, VARIABLE: str(told)})
        processes = Processes(os.getpid(), before=before)
        session = Session(processes, gpus, PhaseFile(told), interval, observer)
        outlived: tuple[int, ...] = ()
        try:
            _follow(command, session, signals)
            session.stop()
            outlived = _outlived(session)
        finally:
            if not leave or not command.ended():
                _end(processes, signals)
                command.ended()
            adopt(False)
        session.peaks.remember(command.highest)
        code, name = _ended_with(command.status or 0)
        ending = Ending(
            code=code,
            signal=name,
            outlived=outlived,
            left=any(process.pid in outlived for process in processes.alive()),
            starved=session.starved(),
        )
        return session.watched(arguments, command.pid, ending, *_unseen(command, session))


def _follow(command: Command, session: Session, signals: Signals) -> None:
    """Look, pass signals on, until the command has ended."""
    pause = min(FIRST_PAUSE, session.interval)
    while True:
        session.look()
        session.processes.reap(but=command.pid)
        signals.wait(pause)
        for number in signals.taken():
            command.pass_on(number, session.processes.alive)
        if command.ended():
            return
        pause = min(2 * pause, session.interval)


def _outlived(session: Session) -> tuple[int, ...]:
    """What still runs when the command is gone and there was time to end."""
    until = time.monotonic() + GRACE
    while alive := session.processes.alive():
        session.look()
        session.processes.reap(but=0)
        if time.monotonic() > until:
            return tuple(sorted(process.pid for process in alive))
        time.sleep(_PAUSE)
    session.processes.reap(but=0)
    return ()


def _end(processes: Processes, signals: Signals) -> None:
    """Ask everything that is left to end, then make it; a Ctrl-C meanwhile makes it at once."""
    asked: set[int] = set()
    started = time.monotonic()
    patience = PATIENCE
    while alive := processes.alive():
        if signal.SIGINT in signals.taken():
            patience = 0.0
        passed = time.monotonic() - started
        for process in alive:
            if passed > patience:
                send(process, signal.SIGKILL)
            elif process.pid not in asked:
                send(process, signal.SIGTERM)
                asked.add(process.pid)
        if passed > patience + LAST:
            break
        signals.wait(_PAUSE)
        processes.reap(but=0)
    processes.reap(but=0)


def _ended_with(status: int) -> tuple[int, str | None]:
    """The code a shell would give, and the name of the signal that ended it."""
    if status >= 0:
        return status, None
    try:
        return 128 - status, signal.Signals(-status).name
    except ValueError:
        return 128 - status, f"signal {-status}"


def _unseen(command: Command, session: Session) -> tuple[str, ...]:
    """What there is to say of a command that was too short to be looked at."""
    if session.peaks.held.bytes:
        return ()
    if command.highest:
        return ("it ended before it was looked at: RSS is what the kernel remembers of its largest process",)
    most = Bytes(command.least_told).rounded()
    return (f"it ended before it was looked at: no process of it took more than {most} of RSS",)
