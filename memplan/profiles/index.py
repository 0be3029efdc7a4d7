"""The generated JSON files that lookups read instead of the YAML.

One entry a line, so that a change of one profile is a change of one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from memplan.profiles.folder import read_folder
from memplan.profiles.store import Records


def rendered(records: Records) -> dict[str, str]:
    """The text of each index file, by its file name."""
    return {
        "gpus.json": _render({"gpus": records.gpus, "gpu_keys": records.gpu_keys}),
        "models.json": _render({"models": records.models, "model_ids": records.model_ids}),
        "named.json": _render({"named": records.named}),
    }


def write_index(folder: Path) -> list[Path]:
    """Check the profiles in a folder and write its index; the files that changed."""
    changed = []
    for name, text in rendered(read_folder(folder)).items():
        path = folder / "index" / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def stale_files(folder: Path) -> list[Path]:
    """Check the profiles in a folder; the index files that do not agree with them."""
    stale = []
    for name, text in rendered(read_folder(folder)).items():
        path = folder / "index" / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
    return stale


def _render(tables: Mapping[str, Mapping[str, object]]) -> str:
    parts = []
    for table, rows in tables.items():
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in rows.items()]
        parts.append(f'"{table}": {{\n' + ",\n".join(lines) + "\n}")
    return "{" + ",\n".join(parts) + "}\n"
