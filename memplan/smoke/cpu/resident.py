"""Resident memory of this process, phase by phase, while nobody looks at single allocations.

Linux keeps the highest resident set of a process (``VmHWM``) and forgets it on request (``clear_refs``), so
that no peak is missed. Elsewhere it is read where phases begin and end, which may miss some.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

from memplan.domain.bytes import Bytes
from memplan.domain.trace import Phase
from memplan.smoke.meter import Named

_STATUS = Path("/proc/self/status")
_FORGET = Path("/proc/self/clear_refs")
_PEAK_ONLY = "5"

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` of glibc's malloc.h."""

LARGE = 2**16
"""Bytes from which a block gets pages of its own, which go back to the system with it."""


def tidy() -> None:
    """Let glibc give memory back when it is freed: otherwise what a phase took would show in the next."""
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, LARGE)
        library.mallopt(_TRIM_THRESHOLD, LARGE)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def now() -> Bytes:
    """The resident set at this moment."""
    return Bytes(psutil.Process().memory_info().rss)


class Resident:
    """A meter of the highest resident set in each phase; ``exact`` says that the kernel keeps it."""

    def __init__(self) -> None:
        self.exact = _forget()
        self.phases: dict[Phase, int] = {}
        self.scope: list[str] = [""]
        self._phase: Phase | None = None

    def begin_step(self) -> None:
        """Phases say all there is to say."""

    def enter(self, phase: Phase) -> None:
        """A phase begins, and with it the one before is over."""
        self.finish()
        self._phase = phase

    def leave(self, _phase: Phase, /) -> None:
        """What the loop does until the next phase counts to this one."""
        self._read()

    def name(self, tensors: Iterable[Named]) -> None:
        """Single tensors cannot be seen from here."""

    def enter_head(self) -> None:
        """The head belongs to the forward pass."""

    def enter_loss(self) -> None:
        """The loss begins."""
        if self._phase is Phase.FORWARD:
            self.enter(Phase.LOSS)

    def finish(self) -> None:
        """The last phase is over."""
        self._read()
        _forget()

    def _read(self) -> None:
        if self._phase is not None:
            seen = _highest() if self.exact else int(now())
            self.phases[self._phase] = max(seen, self.phases.get(self._phase, 0))


def _forget() -> bool:
    """Have the kernel start anew; whether it can."""
    try:
        _FORGET.write_text(_PEAK_ONLY, encoding="ascii")
    except OSError:
        return False
    return True


def _highest() -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return int(now())
