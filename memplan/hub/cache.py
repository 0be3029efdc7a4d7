"""The cache of the hub on this machine, as huggingface_hub lays it out.

``models--OWNER--NAME/refs/main`` names a revision, ``snapshots/REVISION/`` holds its files (huggingface_hub
file_download.py, ``hf_hub_download`` and constants.py, releases 0.30 to 2.4).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

HUB_ID = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
"""An id that can be a model's on the hub (``validate_repo_id`` in utils/_validators.py)."""

_REVISION = re.compile(r"[0-9A-Za-z][\w.-]*")
_MAIN = "main"


def root() -> Path:
    """The folder of the cache: ``HF_HUB_CACHE``, else ``hub`` in ``HF_HOME``, else its usual place."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if named := os.environ.get(name):
            return Path(named).expanduser()
    home = os.environ.get("HF_HOME")
    base = Path(home) if home else _user_cache() / "huggingface"
    return base.expanduser() / "hub"


def notes_root() -> Path:
    """The folder of what memplan itself keeps about models."""
    return _user_cache() / "memplan" / "published"


def snapshot(hub_id: str) -> Path | None:
    """The newest snapshot of a model that holds a ``config.json``; None when there is none."""
    if HUB_ID.fullmatch(hub_id) is None:
        return None
    repository = root() / f"models--{hub_id.replace('/', '--')}"
    folders = [repository / "snapshots" / revision for revision in _main(repository)]
    return next((folder for folder in folders if _is_file(folder / "config.json")), None)


def _main(repository: Path) -> list[str]:
    """The revision that ``main`` was at; one that was only asked for by its hash has no ref."""
    try:
        named = (repository / "refs" / _MAIN).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        named = ""
    if _REVISION.fullmatch(named):
        return [named]
    try:
        known = sorted(os.listdir(repository / "snapshots"))
    except OSError:
        return []
    return known if len(known) == 1 else []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _user_cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    return Path(named).expanduser() if named else Path(os.path.expanduser("~")) / ".cache"
