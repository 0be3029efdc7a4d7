"""A command run as if nobody watched: its own streams, signals, exit code, and no process left behind."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from memplan.domain.errors import InputError

_SUBREAPER = 36
_PARENT_DEATH_SIGNAL = 1
"""``PR_SET_CHILD_SUBREAPER`` and ``PR_SET_PDEATHSIG`` of linux/prctl.h."""


class Command:
    """A child process, with every file that was opened for it.

    Where standard input is a terminal, the command shares this process's group, so that it may read from it,
    and Ctrl-C reaches both by itself. Otherwise it has a group of its own.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self._shares_group = _is_terminal(0)
        self.least_told = _highest(resource.getrusage(resource.RUSAGE_SELF))
        adopt(True)
        try:
            self._process = subprocess.Popen(
                list(arguments),
                env=environment,
                process_group=None if self._shares_group else 0,
                preexec_fn=_dying_with_us(),
                close_fds=False,
            )
        except OSError as error:
            adopt(False)
            raise _cannot_run(arguments[0], error) from None
        self.pid = self._process.pid
        self.status: int | None = None
        self.highest = 0
        self._interrupts = 0

    def ended(self) -> bool:
        """Whether it has; ``status`` then is what ``Popen.returncode`` means.

        ``highest`` is the most that it, or a process it waited for, had resident: ``ru_maxrss``, which starts
        at this process's own size (``least_told``), since that is what it was forked from.
        """
        if self.status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.status = self._process.returncode = os.waitstatus_to_exitcode(status)
                highest = _highest(usage)
                self.highest = highest if highest > self.least_told else 0
        return self.status is not None

    def pass_on(self, number: int, everyone: Callable[[], Iterable[Any]]) -> None:
        """Give a signal to the command; a second Ctrl-C kills ``everyone``."""
        if number != signal.SIGINT:
            self._send(number)
            return
        self._interrupts += 1
        if self._interrupts > 1:
            for process in everyone():
                send(process, signal.SIGKILL)
        elif not self._shares_group:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _send(self, number: int) -> None:
        if not self.ended():
            os.kill(self.pid, number)


def send(process: Any, number: int) -> None:
    """Send a signal to a process of psutil's, if it is still the same and still there."""
    import psutil

    with suppress(psutil.Error, OSError):
        process.send_signal(number)


def adopt(wanted: bool) -> None:
    """On Linux, become the parent of descendants whose own parent dies, or stop being it."""
    prctl = _prctl()
    if prctl is not None:
        prctl(_SUBREAPER, int(wanted), 0, 0, 0)


def _dying_with_us() -> Callable[[], None] | None:
    """On Linux: what the child does before it becomes the command, to get SIGTERM if we are killed."""
    prctl = _prctl()
    if prctl is None:
        return None
    return lambda: prctl(_PARENT_DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0)


def _prctl() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    return ctypes.CDLL(None).prctl


def _is_terminal(stream: int) -> bool:
    try:
        return os.isatty(stream)
    except OSError:
        return False


def _highest(usage: resource.struct_rusage) -> int:
    """``ru_maxrss`` in bytes: Linux gives kilobytes, macOS bytes (getrusage(2) of both)."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _cannot_run(name: str, error: OSError) -> InputError:
    hints = {
        errno.ENOENT: "check its name, or give the path of the program",
        errno.EACCES: "make it executable, or run it through its interpreter: python FILE",
        errno.ENOEXEC: "give it a first line such as #!/bin/sh, or run it through its interpreter",
    }
    said = (error.strerror or str(error)).lower()
    return InputError(f"{name} cannot be run: {said}", hint=hints.get(error.errno or 0))
