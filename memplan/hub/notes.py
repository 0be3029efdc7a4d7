"""What headers on the hub said, kept so that the next run says the same without a network.

One small JSON file for each revision of a model, in memplan's own folder of the user's cache: nothing is
written into the hub's cache but by huggingface_hub.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from memplan.domain.bytes import Bytes
from memplan.domain.published import Published
from memplan.hub.cache import notes_root


def recall(folder: Path) -> Published | None:
    """What was kept about a snapshot; None where nothing was, or what was kept cannot be understood."""
    path = _path(folder)
    if path is None:
        return None
    try:
        kept = json.loads(path.read_bytes())
        return Published(
            parameters=int(kept["parameters"]),
            size=Bytes(kept["size"]),
            dtypes=tuple((str(name), Bytes(size)) for name, size in kept["dtypes"]),
            layout=None if kept["layout"] is None else str(kept["layout"]),
            files=int(kept["files"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(folder: Path, found: Published) -> None:
    """Keep it beside the snapshot's name. A cache that cannot be written is no reason to fail."""
    path = _path(folder)
    if path is None:
        return
    values = {
        "parameters": found.parameters,
        "size": int(found.size),
        "dtypes": [[name, int(size)] for name, size in found.dtypes],
        "layout": found.layout,
        "files": found.files,
    }
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(values), encoding="utf-8")
        fresh.replace(path)


def _path(folder: Path) -> Path | None:
    """The file for ``…/models--OWNER--NAME/snapshots/REVISION``; None for a folder of any other kind."""
    if folder.parent.name != "snapshots" or not folder.parent.parent.name.startswith("models--"):
        return None
    return notes_root() / folder.parent.parent.name / f"{folder.name}.json"
