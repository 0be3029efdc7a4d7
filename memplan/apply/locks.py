"""One rewrite at a time in a folder.

The folder itself is locked, so that no lock file is left behind. The system drops the lock with the process,
however it ends. Where folders cannot be locked (Windows, some network drives) nothing is: what remains is
that a file is compared with what it was read as just before it is replaced.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from memplan.domain.errors import FileAccessError

PATIENCE = 10.0
"""Seconds to wait for another process: a rewrite takes milliseconds."""

_PAUSE = 0.01


@contextmanager
def locked(folders: Iterable[Path]) -> Iterator[None]:
    """Hold the folders until the end of the block, taken in one order so that no two wait for each other.

    Raises:
        FileAccessError: another process held one of them all the time.
    """
    with ExitStack() as held:
        for folder in sorted(set(folders)):
            held.enter_context(_one(folder))
        yield


@contextmanager
def _one(folder: Path) -> Iterator[None]:
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise FileAccessError(
                        f"another memplan is writing in {folder}; nothing was written",
                        hint="wait for it to end",
                    ) from None
                time.sleep(_PAUSE)
            except OSError:
                break
        yield
    finally:
        os.close(handle)
