"""A Python process of memplan's own, which ends when this one does and leaves nothing behind.

It runs ``python -m MODULE`` in a session of its own, so that a Ctrl-C at the terminal is this process's to
deal with, and the whole group can be killed. Its standard input stays open for as long as this process lives:
``lifeline`` in the child watches for its end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import memplan

LAST_WORDS = 2000
"""Characters of what a child said that are looked at."""


class Child:
    """One process. What it writes goes to ``log``."""

    def __init__(
        self, module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                # -P: modules are not looked for where the user happens to be.
                [sys.executable, "-P", "-W", "ignore", "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": _import_path(), **(environment or {})},
                start_new_session=True,
            )

    def ended(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        """Like ``ended``, after waiting so long at most."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.ended()

    def kill(self) -> None:
        """End it and everything it started, now."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def last_words(self) -> str:
        """The last line it wrote that is not empty."""
        text = self.log.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:]
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def _import_path() -> str:
    """Where memplan lies, and then what was set before."""
    own = str(Path(memplan.__file__).resolve().parents[1])
    return os.pathsep.join(part for part in (own, os.environ.get("PYTHONPATH", "")) if part)


def lifeline() -> None:
    """In a child: end with the parent, together with everything that was started from here."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that what it cleans up is cleaned up."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 -- called so
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Those that were ignored before stay ignored, as under nohup.
    wanted = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, interrupt) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
