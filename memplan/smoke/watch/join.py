"""A process that runs already, from now to its end."""

from __future__ import annotations

import signal
from typing import Any

from memplan.domain.errors import InputError
from memplan.domain.watched import Ending, Watched
from memplan.smoke.watch.graphics import GpuMeter
from memplan.smoke.watch.processes import Processes
from memplan.smoke.watch.session import Observer, Session
from memplan.smoke.watch.signals import Signals

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def join(pid: int, interval: float, *, observer: Observer | None) -> Watched:
    """Watch a process and its descendants; signals end the watching alone.

    Raises:
        InputError: no such process runs.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        command = tuple(process.cmdline()) or (process.name(),)
    except (psutil.Error, ValueError, OverflowError):
        raise InputError(f"no process {pid} runs here", hint="ps and nvidia-smi list process ids") from None
    with Signals() as signals, GpuMeter(fresh=False) as gpus:
        session = Session(Processes(pid), gpus, None, interval, observer)
        stopped = False
        while not stopped and _runs(process):
            session.look()
            signals.wait(interval)
            stopped = any(number in _STOPS for number in signals.taken())
        outlived = () if stopped else tuple(sorted(item.pid for item in session.processes.alive()))
        ending = Ending(outlived=outlived, left=bool(outlived), starved=session.starved())
        notes = ("watching was stopped: it still runs",) if stopped and _runs(process) else ()
        return session.watched(command, pid, ending, *notes)


def _runs(process: Any) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
