"""``memplan smoke`` of a loop over tokens: every single allocation, and what becomes of one too many."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memplan.cli import main
from memplan.domain.bytes import Bytes
from memplan.domain.churn import Churn
from memplan.domain.dtype import Dtype
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.trace import Phase, Trace

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'memplan[smoke]'"
)

MANIFEST = """\
memplan: 1
model:
  mechanism: buffers
  values: {{tokens: 40, vocabulary: 60, embedding: 32, state: 16, output: 64, decoding: sampled, {more}}}
"""


@needs_torch
@pytest.mark.parametrize(
    ("more", "count"),
    [
        ("buffers: per_token", 40 * 15),
        ("buffers: preallocated", 0),
        ("buffers: batched, chunk: 15", 1 + 3 * 10),
    ],
)
def test_every_allocation_is_seen_as_foretold(
    more: str, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "memplan.yaml"
    path.write_text(MANIFEST.format(more=more), encoding="utf-8")
    assert (
        main(["smoke", str(path), "--device", "cpu", "--steps", "1", "--no-record", "--format", "json"]) == 0
    )
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["predicted"]["made"] == found["measured"]["made"]
    assert found["measured"]["made"]["count"] == count
    assert found["predicted"]["phases"] == found["measured"]["phases"]
    assert found["error"]["made"] == {"count": 0.0, "bytes": 0.0}


def _comparison(predicted: Churn | None, measured: Churn | None) -> Comparison:
    plain = Measurement(peak_allocated=Bytes(8), peak_reserved=None, phases=(), components=())
    return Comparison(
        device="cpu", predicted=replace(plain, churn=predicted), measured=replace(plain, churn=measured)
    )


def test_one_allocation_too_many_is_not_as_predicted() -> None:
    hundred = Churn(count=100, bytes=Bytes(100))
    assert _comparison(hundred, hundred).passed
    assert _comparison(None, hundred).passed
    assert not _comparison(hundred, Churn(count=101, bytes=Bytes(100))).passed
    assert not _comparison(hundred, Churn(count=100, bytes=Bytes(101))).passed
    assert not _comparison(Churn(count=0, bytes=Bytes(0)), Churn(count=1, bytes=Bytes(4))).passed


def test_what_loading_allocates_is_no_churn() -> None:
    trace = Trace()
    trace.enter(Phase.LOAD)
    tag = ("results", "", "mm", (4,), Dtype.UINT8)
    first = trace.allocate(4, tag)
    trace.enter(Phase.DECODE)
    trace.free(first)
    trace.free(trace.allocate(7, tag))
    trace.allocate(5, tag)
    assert Churn.of(trace) == Churn(count=2, bytes=Bytes(12))
    assert Churn.of(Trace()) == Churn(count=0, bytes=Bytes(0))
