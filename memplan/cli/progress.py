"""A bar on standard error for what takes longer than a second, where a person looks on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 1.0
"""Seconds without a bar: most answers are there before, and rich would not have to be loaded."""

Advance = Callable[[], None]
"""To be called when one more piece is done."""


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """Count ``total`` pieces of work; the bar is gone when the work is done or broken off."""
    bar = _Bar(title, total, shown=watched())
    try:
        yield bar.advance
    finally:
        bar.close()


def watched() -> bool:
    """Whether standard error is a terminal that can redraw a line, whose user did not ask for plain text."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stderr.isatty()


class _Bar:
    def __init__(self, title: str, total: int, *, shown: bool) -> None:
        self._title = title
        self._total = total
        self._shown = shown
        self._done = 0
        self._started = time.monotonic()
        self._live: tuple[Any, Any] | None = None

    def advance(self) -> None:
        """One more piece is done."""
        self._done += 1
        if not self._shown or time.monotonic() - self._started < PATIENCE:
            return
        if self._live is None:
            self._live = self._start()
        bar, task = self._live
        bar.update(task, completed=self._done)

    def close(self) -> None:
        """Clear the line."""
        if self._live is not None:
            self._live[0].stop()

    def _start(self) -> tuple[Any, Any]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=Console(stderr=True), transient=True)
        bar.start()
        return bar, bar.add_task(self._title, total=self._total)
