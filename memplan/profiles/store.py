"""Where the profiles lie, and their records as plain values.

The YAML files under ``profiles/`` are what people read and edit. Parsing and validating them takes
longer than a whole estimate, so lookups read ``profiles/index/*.json``, which is generated from
them and committed (``python -m memplan.profiles --index``; a test compares the two). A user's own
folder of the same layout, named by the environment variable MEMPLAN_PROFILES, is read and
validated from YAML each time and laid over the shipped records.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from memplan.domain.errors import FileAccessError, ProfileError

OVERLAY_VARIABLE = "MEMPLAN_PROFILES"
KINDS = ("gpus", "models", "named")
_REINSTALL = "install memplan again"

Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Records by name (``gpus``, ``models``, ``named``), and the names that lead to them.

    ``gpu_keys`` maps a folded spelling to a GPU's name, ``model_ids`` a hub id to an architecture's name.
    """

    gpus: dict[str, Record] = field(default_factory=dict)
    gpu_keys: dict[str, str] = field(default_factory=dict)
    models: dict[str, Record] = field(default_factory=dict)
    model_ids: dict[str, str] = field(default_factory=dict)
    named: dict[str, Record] = field(default_factory=dict)

    def overlaid(self, other: Records) -> Records:
        """These records with the other's added; where both have a name, the other's counts."""
        return Records(
            gpus=self.gpus | other.gpus,
            gpu_keys=self.gpu_keys | other.gpu_keys,
            models=self.models | other.models,
            model_ids=self.model_ids | other.model_ids,
            named=self.named | other.named,
        )


def shipped_folder() -> Path:
    """The folder of the profiles that come with memplan: inside a wheel, or beside the source tree.

    Raises:
        FileAccessError: the installation has lost them.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_profiles", package.parent / "profiles"):
        if folder.is_dir():
            return folder
    raise FileAccessError(f"memplan's own profiles are missing beside {package}", hint=_REINSTALL)


def records() -> Records:
    """The shipped records, with those of the user's own folder laid over them.

    Raises:
        FileAccessError: a folder or file cannot be read.
        ProfileError: a file of the user's folder breaks the schema.
    """
    shipped = _indexed(shipped_folder())
    overlay = os.environ.get(OVERLAY_VARIABLE)
    return shipped.overlaid(_overlay(overlay)) if overlay else shipped


@cache
def _indexed(folder: Path) -> Records:
    merged: dict[str, Any] = {}
    for kind in KINDS:
        path = folder / "index" / f"{kind}.json"
        try:
            merged |= json.loads(path.read_bytes())
        except OSError as error:
            raise FileAccessError(f"cannot read {path}: {error.strerror}", hint=_REINSTALL) from error
        except ValueError as error:
            raise ProfileError(f"{path} is not well-formed: {error}", hint=_REINSTALL) from error
    return Records(**merged)


@cache
def _overlay(folder: str) -> Records:
    # Loads pydantic and PyYAML: only for a user's own profiles.
    from memplan.profiles.folder import read_folder

    path = Path(folder)
    if not any((path / kind).is_dir() for kind in KINDS):
        raise FileAccessError(
            f"{OVERLAY_VARIABLE} names {folder}, which is not a folder of profiles",
            hint="point it at a folder that holds gpus/, models/ or named/",
        )
    return read_folder(path)
