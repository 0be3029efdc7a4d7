"""``memplan smoke`` of a decoder with a large context: memory and files, as foretold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from memplan.cli import main
from memplan.domain.errors import RunError
from memplan.mechanisms.context.growing import in_memory
from memplan.mechanisms.context.mapped import MappedCache
from memplan.smoke.systems.readback import Witness

MANIFEST = """\
memplan: 1
model:
  mechanism: large_context
  values: {layers: 2, heads: 2, head_dim: 32, hidden: 64, vocab: 200, context: 4096, window: 256, chunk: 512}
"""


def run(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    path = folder / "memplan.yaml"
    path.write_text(MANIFEST)
    code = main(["smoke", str(path), "--device", "cpu", "--steps", "1", "--format", "json", *words])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("cache", ["memory", "mapped"])
def test_a_run_goes_as_foretold(cache: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every phase, resident memory, and the files if there are any."""
    code, found = run(tmp_path, capsys, "--set", f"cache={cache}")
    assert code == 0
    assert found["passed"]
    assert set(found["measured"]["phases"]) >= {
        "forward",
        "loss",
        "backward",
        "optimizer",
        "prefill",
        "decode",
    }
    assert all(abs(off) < 0.01 for off in found["error"]["phases"].values())
    size = 2 * 4096 * 2 * 2 * 32 * 4
    assert found["measured"].get("disk") == ({"files": size} if cache == "mapped" else None)
    assert found["predicted"].get("disk") == found["measured"].get("disk")
    assert found["notes"][-1].endswith("of keys and values of 4,096 tokens in 2 layers were read back equal")


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_byte_that_changed_in_the_cache_is_an_error(in_memory: bool) -> None:
    """Whoever changed it."""
    keys = torch.randn(1, 2, 3000, 8)
    with MappedCache(layers=2, in_memory=in_memory) as cache:
        witness = Witness(cache)
        for layer in range(2):
            cache.append(keys, keys, layer)
        assert "3,000 tokens in 2 layers were read back equal" in witness.compare()
        cache.layers[1].file.mapped()[200_000] += 1
        with pytest.raises(RunError, match="layer 1 of the cache"):
            witness.compare()


def test_under_a_cap_the_mapped_cache_goes_through_and_the_other_dies_where_foretold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four MiB of keys and values make the difference."""
    words = ("--set", "training=false", "--cap", "4MiB")
    assert run(tmp_path, capsys, *words, "--set", "cache=mapped")[0] == 0
    code, found = run(tmp_path, capsys, *words)
    assert code == 1
    assert found["shortage"]["foreseen"]
    assert found["shortage"]["phase"] == "prefill"


def test_what_would_take_hours_is_run_in_small_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prediction and measurement are of the same small run."""
    from memplan.smoke.systems import large_context

    monkeypatch.setitem(large_context.SMALL, "context", 1024)
    code, found = run(
        tmp_path, capsys, "--set", "layers=50", "--set", "hidden=4096", "--set", "context=2000000"
    )
    assert code == 0
    assert "layers 50 → 2" in found["notes"][0]
    assert "context 2,000,000 → 1,024" in found["notes"][0]


def test_files_in_ram_are_said_to_save_none() -> None:
    """Where the place for temporary files is a tmpfs."""
    place = Path("/dev/shm")
    if not in_memory(place):
        pytest.skip("no tmpfs at /dev/shm")
    keys = torch.randn(1, 2, 30, 8)
    with MappedCache(place, layers=1) as cache:
        witness = Witness(cache)
        cache.append(keys, keys, 0)
        assert witness.compare().endswith("; /dev/shm lies in RAM, so that files there save none")
