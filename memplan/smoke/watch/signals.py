"""Signals while a command is watched: noted as they come, acted on between two looks."""

from __future__ import annotations

import os
import select
import signal
from contextlib import AbstractContextManager, suppress
from types import FrameType, TracebackType
from typing import Any, Self

PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
"""Signals that are meant for the command. Those that were ignored before stay ignored, as under nohup."""

_LISTENED = ("SIGCHLD", *PASSED_ON)


class Signals(AbstractContextManager["Signals"]):
    """Holds the signals of ``_LISTENED`` until they are asked for; ``wait`` ends early when one comes."""

    def __init__(self) -> None:
        self._came: list[int] = []
        self._handlers: dict[int, Any] = {}
        self._woken, self._wake = -1, -1
        self._wake_before = -1

    def __enter__(self) -> Self:
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        self._wake_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for name in _LISTENED:
            number = getattr(signal, name)
            if name == "SIGCHLD" or signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wake_before)
        os.close(self._woken)
        os.close(self._wake)

    def wait(self, seconds: float) -> None:
        """Sleep so long, or until a signal comes."""
        select.select([self._woken], [], [], max(0.0, seconds))
        with suppress(BlockingIOError):
            os.read(self._woken, 4096)

    def taken(self) -> list[int]:
        """The signals to pass on that came since the last call, in order."""
        came, self._came = self._came, []
        return came

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- called so
        if number != signal.SIGCHLD:
            self._came.append(number)
