"""accelerate's own loader on the configs of the corpus, as they are and as memplan rewrites them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.dialects import edits
from memplan.documents import edits as documents
from memplan.domain.errors import MemplanError
from memplan.domain.workload import Checkpointing
from memplan.domain.zero import Place
from memplan.read import read

MODEL = "meta-llama/Llama-3.2-1B"
WANTED: dict[str, Any] = {
    "batch.accumulation": 3,
    "world.sharding": "zero1",
    "world.zero.optimizer": Place.CPU,
    "world.reshard_after_forward": False,
    "checkpointing": Checkpointing(every=1),
}


def test_accelerate_takes_what_memplan_reads_and_what_it_writes(corpus: Path, tmp_path: Path) -> None:
    args = pytest.importorskip(
        "accelerate.commands.config.config_args", reason="accelerate is not installed", exc_type=ImportError
    )
    yaml = pytest.importorskip("yaml")
    entries = json.loads((corpus / "manifest.json").read_text())
    changed = 0
    for path in (corpus / item["file"] for item in entries if item["dialect"] == "accelerate"):
        try:
            reading = read(path, model=MODEL)
        except MemplanError:
            with pytest.raises(ValueError, match="unknown keys"):
                args.load_config_from_file(str(path))
            continue
        before = args.load_config_from_file(str(path))
        alone = before.num_processes == -1 or before.parallelism_config
        assert alone or before.num_processes == reading.workload.world.data_parallel
        for field, after in WANTED.items():
            written, advice = edits(reading, [(field, reading.workload.at(field), after)])
            if advice or not written:
                continue
            copy = tmp_path / path.name
            copy.write_text(documents.apply(reading.document.source, written), encoding="utf-8", newline="")
            args.load_config_from_file(str(copy))
            old, new = (yaml.safe_load(item.read_text(encoding="utf-8")) for item in (path, copy))
            assert _differing(old, new) == len(written)
            changed += 1
    assert changed >= 15


def _differing(old: Any, new: Any) -> int:
    """How many values of two trees with the same keys differ."""
    if isinstance(old, dict):
        assert old.keys() == new.keys()
        return sum(_differing(old[key], new[key]) for key in old)
    return int(old != new)
