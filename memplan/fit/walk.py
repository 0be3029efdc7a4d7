"""The files below a folder that may be training configs, found without parsing any."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from memplan.read import CONFIG_SUFFIXES

LARGEST_CONFIG = 2**20
"""Bytes; tokenizers, data and records of runs are JSON as well, and often larger."""

_FOREIGN = frozenset({"node_modules", "site-packages", "venv", "wandb", "__pycache__"})
"""Folders of other people's files, or of what runs leave behind; hidden ones are left out as well."""

_ENVIRONMENT = "pyvenv.cfg"
"""What a Python environment has in its folder, whatever that is called."""


def files(folder: Path) -> tuple[Path, ...]:
    """Files whose names may be configs', in the order of their paths; links to folders are not followed."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if _entered(Path(place, name))]
        found += [Path(place, name) for name in names if _named_like_a_config(name)]
    return tuple(sorted(found, key=lambda path: path.relative_to(folder).parts))


def _entered(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name in _FOREIGN
    return not hidden and not (folder / _ENVIRONMENT).is_file()


def _named_like_a_config(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(CONFIG_SUFFIXES)


def may_be_config(path: Path) -> bool:
    """Whether a file is worth parsing: not too large, and with a word that some format is known by.

    What cannot be opened is: the complaint about it is somebody else's.
    """
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            return False
        text = path.read_text(encoding="utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    except OSError:
        return True
    if path.suffix.lower() == ".json" and not text.startswith("{"):
        return False
    return path.name in _marks() or _marked().search(text) is not None


@cache
def _marks() -> frozenset[str]:
    from memplan.dialects import DIALECTS

    return frozenset(mark for marks in DIALECTS.values() for mark in marks)


@cache
def _marked() -> re.Pattern[str]:
    return re.compile("|".join(re.escape(mark) for mark in sorted(_marks())))


def companions(folder: Path) -> Iterator[Path]:
    """Files of a folder that would join its one training config, were the folder given as a job."""
    from memplan.dialects.job import ADAPTER_FILE, LAUNCH_MARK

    for path in sorted(folder.iterdir()):
        if path.name == ADAPTER_FILE:
            yield path
        elif (
            path.suffix.lower() in (".yaml", ".yml")
            and path.is_file()
            and path.stat().st_size <= LARGEST_CONFIG
        ):
            text = path.read_text(encoding="utf-8", errors="replace")
            if f"{LAUNCH_MARK}:" in text:
                yield path
