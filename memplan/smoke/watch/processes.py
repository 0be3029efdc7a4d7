"""Which processes belong to a command: its descendants, also those whose parent has died."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any


class Processes:
    """Everything below ``root`` that was not there before, and whatever of it was seen once and still runs.

    ``root`` itself belongs to it unless it is this process.
    """

    def __init__(self, root: int, *, before: Iterable[int] = ()) -> None:
        self._root = root
        self._before = tuple(before)
        self._seen: dict[int, Any] = {}
        self._dead: tuple[int, ...] = ()

    def alive(self) -> tuple[Any, ...]:
        """The processes that run now, as psutil's. Those that ended and wait for their parent do not."""
        import psutil

        strangers = {process.pid for pid in self._before for process in _family(pid)}
        found: dict[int, Any] = {}
        for root in (self._root, *self._orphans()):
            if root not in found:
                found |= {process.pid: process for process in _family(root)}
        mine = {pid: found[pid] for pid in found.keys() - strangers - {os.getpid()}}
        dead = {pid for pid, process in mine.items() if _status(process) in (None, psutil.STATUS_ZOMBIE)}
        self._dead = tuple(dead)
        self._seen = {pid: process for pid, process in mine.items() if pid not in dead}
        return tuple(self._seen.values())

    def reap(self, but: int) -> None:
        """Let go of orphans that ended and that this process inherited; not of ``but``."""
        for pid in self._dead:
            if pid != but:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _orphans(self) -> Iterator[int]:
        """Ids of what was seen before and is still the same process."""
        return (pid for pid, process in self._seen.items() if process.is_running())


def _family(root: int) -> Iterator[Any]:
    """A process and all its descendants; nothing if it is gone."""
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(root)
        yield process
        yield from process.children(recursive=True)


def _status(process: Any) -> str | None:
    import psutil

    try:
        return str(process.status())
    except psutil.Error:
        return None
