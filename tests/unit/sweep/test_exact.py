"""The largest value that fits, to the unit, and what a table says beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan import profiles
from memplan.dialects.reading import Reading
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Verdict
from memplan.domain.target import Target
from memplan.estimate import estimate
from memplan.read import read
from memplan.reporters.blocks import Bullets
from memplan.reporters.views import sweep as view
from memplan.sweep import sweep
from memplan.sweep.axes import parse
from memplan.sweep.boundary import boundaries

DECLARED = """memplan: 1
model:
  tensors: {table: {shape: [rows, 1024], dtype: fp32}, state: {shape: [width], dtype: fp32}}
  values: {rows: 4096, width: 16}
"""
LOOP = """memplan: 1
task: generate
model:
  mechanism: buffers
  values: {tokens: 100, vocabulary: 32000, embedding: 64, state: 64, output: 64}
"""


def config(folder: Path, text: str) -> Reading:
    path = folder / "memplan.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path)


def fits(reading: Reading, name: str, value: int, target: Target) -> bool:
    alone = read(reading.path, overrides=[f"{name}={value}"])
    return estimate(alone.workload, target).verdict is Verdict.FITS


@pytest.mark.parametrize("gpu", ["gtx1650", "t4", "512MiB"])
def test_the_exact_largest_value_fits_and_one_more_does_not(tmp_path: Path, gpu: str) -> None:
    reading, target = config(tmp_path, DECLARED), profiles.target(gpu)
    axes = parse(reading.workload, ["rows=1..16777216"])
    (found,) = boundaries(sweep(reading, axes, [target], exact=True))
    (row,) = found.rows
    if row.exact is None:
        assert not fits(reading, "rows", 1, target)
        return
    assert row.largest is not None
    assert row.largest.number is not None
    assert row.largest.number <= row.exact < 2 * row.largest.number
    assert fits(reading, "rows", row.exact, target)
    assert not fits(reading, "rows", row.exact + 1, target)


def test_every_target_and_setting_of_the_other_axis_has_its_own(tmp_path: Path) -> None:
    reading = config(tmp_path, DECLARED)
    targets = [profiles.target(name) for name in ("gtx1650", "t4")]
    axes = parse(reading.workload, ["width=16,500000000", "rows=1024..16777216"])
    found = boundaries(sweep(reading, axes, targets, exact=True))
    exact = [[row.exact for row in item.rows] for item in found]
    assert [len(row) for row in exact] == [2, 2]
    (small, less), (large, fewer) = exact
    assert small is not None
    assert large is not None
    assert fewer is not None
    assert small < large
    assert fewer < large
    assert less is None or less < small


def test_nothing_is_refined_where_all_fits_or_nothing_or_nobody_asked(tmp_path: Path) -> None:
    reading = config(tmp_path, DECLARED)
    for values in ("rows=1..1024", "rows=16777216..33554432"):
        axes = parse(reading.workload, [values])
        (found,) = boundaries(sweep(reading, axes, [profiles.target("t4")], exact=True))
        assert [row.exact for row in found.rows] == [None]
    axes = parse(reading.workload, ["rows=1..16777216"])
    assert sweep(reading, axes, [profiles.target("t4")]).limits == ()


def test_a_machine_without_a_gpu_is_refined_by_its_ram(tmp_path: Path) -> None:
    reading, target = config(tmp_path, LOOP), Target.of_host(Bytes(4 * 2**30))
    axes = parse(reading.workload, ["vocabulary=32000..64000000"])
    (found,) = boundaries(sweep(reading, axes, [target], exact=True))
    (row,) = found.rows
    assert row.exact is not None
    assert fits(reading, "vocabulary", row.exact, target)
    assert not fits(reading, "vocabulary", row.exact + 1, target)
    assert found.said is None


def test_the_table_of_ram_stands_beside_the_context_of_a_decoder_alone(tmp_path: Path) -> None:
    text = LOOP.replace("buffers", "large_context").replace(
        "{tokens: 100, vocabulary: 32000, embedding: 64, state: 64, output: 64}",
        "{layers: 1, heads: 1, hidden: 64, vocab: 100, context: 1024, training: false, chunk: 1024}",
    )
    reading = config(tmp_path, text)
    target = Target.of_host(Bytes(16 * 2**30))
    for name, says in (("context", 32_768), ("vocab", None)):
        axes = parse(reading.workload, [f"{name}=1024..4096"])
        (found,) = boundaries(sweep(reading, axes, [target]))
        assert (found.said.value if found.said else None) == says
    shown = view.report(reading, sweep(reading, parse(reading.workload, ["context=1024,2048"]), [target]))
    titles = [block.title for block in shown if isinstance(block, Bullets)]
    assert "What fits host (16.0 GiB), context (the table ram-steps says 32,768):" in titles
