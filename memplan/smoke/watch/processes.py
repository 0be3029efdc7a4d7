"""Which processes belong to a command: its descendants, also those whose parent has died."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any


class Processes:
    """Everything below ``root`` that was not there before, and whatever of it was seen once and still runs.

    ``root`` itself belongs to it unless it is this process.
    """

    def __init__(self, root: int, *, before: Iterable[int] = ()) -> None:
        self._root = root
        self._before = frozenset(before)
        self._seen: dict[int, Any] = {}
        self._dead: tuple[int, ...] = ()

    def alive(self) -> tuple[Any, ...]:
        """The processes that run now, as psutil's. Those that ended and wait for their parent do not."""
        import psutil

        everyone = {process.pid: process for process in psutil.process_iter(["ppid", "status"])}
        roots = {self._root, *(pid for pid, process in self._seen.items() if everyone.get(pid) == process)}
        mine = {pid: everyone[pid] for pid in self._below(roots, everyone)}
        dead = {pid for pid, process in mine.items() if process.info["status"] == psutil.STATUS_ZOMBIE}
        self._dead = tuple(pid for pid in dead if mine[pid].info["ppid"] == os.getpid())
        self._seen = {pid: process for pid, process in mine.items() if pid not in dead}
        return tuple(self._seen.values())

    def reap(self, but: int) -> None:
        """Let go of orphans that ended and that this process inherited; not of ``but``."""
        for pid in self._dead:
            if pid != but:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _below(self, roots: set[int], everyone: dict[int, Any]) -> set[int]:
        children: dict[int, list[int]] = {}
        for pid, process in everyone.items():
            children.setdefault(process.info["ppid"], []).append(pid)
        found: set[int] = set()
        waiting = list(roots)
        while waiting:
            pid = waiting.pop()
            if pid in found or pid in self._before or pid not in everyone:
                continue
            found.add(pid)
            waiting.extend(children.get(pid, ()))
        return found - {os.getpid()}
