"""Host memory of processes, as the kernel counts it.

``/proc/PID/status`` tells resident memory and its kinds; ``/proc/PID/smaps_rollup`` divides pages by the
number of processes that share them (Linux, Documentation/filesystems/proc.rst). Elsewhere psutil tells
resident memory alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_KILOBYTE = 1024

PATIENCE = 9
"""Walking all pages of a large process takes time: this many times as long passes before it is done again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Bytes of several processes together. ``highest`` is the most that one of them ever had resident.

    ``held`` is anonymous and shared memory, None when it was not looked at; ``shared_once`` says that pages
    which several of the processes share count once in it.
    """

    rss: int
    highest: int
    held: int | None
    shared_once: bool


class HostMeter:
    """Adds up the memory of processes, and keeps the time spent on walking pages to a tenth."""

    def __init__(self) -> None:
        self._again = 0.0

    def read(self, processes: Iterable[Any]) -> Resident:
        """What the processes (psutil's) hold now; one that is gone meanwhile holds nothing."""
        counted = {process.pid: _counted(process) for process in processes}
        whole = {pid: found["RssAnon"] + found["RssShmem"] for pid, found in counted.items()}
        shares: dict[int, int | None] = {}
        looked = len(counted) < 2 or time.monotonic() >= self._again
        if len(counted) > 1 and looked:
            shares = self._walk(counted)
        untold = any(share is None for share in shares.values())
        held = sum(amount if (share := shares.get(pid)) is None else share for pid, amount in whole.items())
        return Resident(
            rss=sum(found["VmRSS"] for found in counted.values()),
            highest=max((found["VmHWM"] for found in counted.values()), default=0),
            held=held if looked else None,
            shared_once=not untold,
        )

    def _walk(self, pids: Iterable[int]) -> dict[int, int | None]:
        started = time.monotonic()
        shares = {pid: _share(pid) for pid in pids}
        now = time.monotonic()
        self._again = now + PATIENCE * (now - started)
        return shares


def _counted(process: Any) -> dict[str, int]:
    """Resident bytes of one process by the kernel's names; zero when it is gone."""
    found = dict.fromkeys(("VmRSS", "VmHWM", "RssAnon", "RssShmem"), 0)
    lines = _lines(Path(f"/proc/{process.pid}/status"))
    if lines is None:
        resident = _resident(process)
        return found | {"VmRSS": resident, "VmHWM": resident, "RssAnon": resident}
    return found | _amounts(lines, tuple(found))


def _share(pid: int) -> int | None:
    """Anonymous and shared memory of a process, each page divided by those who share it.

    None where the kernel does not tell it, or not to this user; 0 when the process is gone.
    """
    lines = _lines(Path(f"/proc/{pid}/smaps_rollup"))
    if lines is None:
        gone = Path("/proc/self").exists() and not Path(f"/proc/{pid}").exists()
        return 0 if gone else None
    names = ("Pss_Anon", "Pss_Shmem")
    found = _amounts(lines, names)
    return sum(found.values()) if len(found) == len(names) or not lines else None


def _lines(path: Path) -> list[str] | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except ProcessLookupError:
        return []
    except OSError:
        return None


def _amounts(lines: Iterable[str], names: tuple[str, ...]) -> dict[str, int]:
    """Lines such as ``VmRSS:	 1728 kB`` as bytes by name."""
    split = (line.partition(":") for line in lines)
    return {name: int(rest.split()[0]) * _KILOBYTE for name, _, rest in split if name in names}


def _resident(process: Any) -> int:
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
