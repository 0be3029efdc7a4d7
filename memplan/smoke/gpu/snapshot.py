"""``--snapshot FILE``: every allocation as PyTorch recorded it, for its viewer at pytorch.org/memory_viz."""

from __future__ import annotations

import os
from pathlib import Path

from memplan.domain.errors import FileAccessError
from memplan.smoke.gpu.driver import Driver


def writable(path: Path) -> None:
    """Check, before anything runs, that a file can be written there.

    Raises:
        FileAccessError: it cannot.
    """
    if path.is_dir():
        raise FileAccessError(f"{path} is a folder", expected="a file to write the snapshot to")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise FileAccessError(f"the snapshot {path} cannot be written: its folder is missing or closed")
    if path.exists() and not os.access(path, os.W_OK):
        raise FileAccessError(f"the snapshot {path} cannot be overwritten")


def write(driver: Driver, path: Path) -> None:
    """Write what was recorded; the file is there in whole or, where that fails, as it was before.

    Raises:
        FileAccessError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        driver.dump(part)
        part.replace(path)
    except OSError as error:
        raise FileAccessError(f"the snapshot {path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
