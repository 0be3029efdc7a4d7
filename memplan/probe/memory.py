"""Host memory, in all and free now, as Linux and the control groups of this process see it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from memplan.domain.bytes import Bytes

PROC = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")

_FIRST_VERSION = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
_SECOND_VERSION = ("memory.max", "memory.current", "inactive_file ")
"""Files of a control group with its limit and use, and the line of ``memory.stat`` that can be taken back."""


def free_ram() -> Bytes | None:
    """Host memory that a new process gets without swapping; None where the system does not tell.

    Linux says so (``MemAvailable`` of /proc/meminfo, which counts what the kernel would take back), and
    control groups may allow less. Of what a group uses, file pages that are not in use are taken back
    likewise (``memory.stat``).
    """
    try:
        lines = (PROC / "meminfo").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    if not kibibytes:
        return None
    return Bytes(max(0, min([kibibytes[0] * 1024, *_of_groups(_left_in_group)])))


def ram() -> Bytes | None:
    """Physical memory of this machine, or what control groups allow of it; None where it does not tell."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return Bytes(min([found, *_of_groups(_limit_of_group)]))


Ask = Callable[[Path, str, str, str], int | None]


def _of_groups(ask: Ask) -> Iterator[int]:
    """What each control group of this process says, from its own up to the machine's."""
    try:
        lines = (PROC / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        names = _FIRST_VERSION if controllers else _SECOND_VERSION
        root = GROUPS / "memory" if controllers else GROUPS
        own = root / path.strip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(root) and (found := ask(folder, *names)) is not None:
                yield found


def _limit_of_group(folder: Path, limit: str, *_: str) -> int | None:
    """Bytes a group may take in all; None where it has no limit, or is not seen from here."""
    try:
        return int((folder / limit).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _left_in_group(folder: Path, limit: str, use: str, returnable: str) -> int | None:
    """Bytes a group may still take; None where it has no limit, or is not seen from here."""
    try:
        most = int((folder / limit).read_text(encoding="ascii"))
        used = int((folder / use).read_text(encoding="ascii"))
        stat = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    back = sum(int(line.split()[1]) for line in stat if line.startswith(returnable))
    return most - used + min(back, used)
