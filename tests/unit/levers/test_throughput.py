"""Published speeds: the file is well-formed, and the cost model ranks them no worse than it did."""

from __future__ import annotations

import datetime
from functools import cache
from typing import Any

import pytest
import yaml

from benchmarks import throughput
from memplan import profiles

ORDERED = 0.87
"""The share of pairs that the model ordered rightly when it was first compared, nothing fitted: 87.4 %."""

ERROR = 0.14
"""The median factor, less one, by which ratios were off: 13.1 %."""


@cache
def published() -> tuple[throughput.Published, ...]:
    return throughput.load()


def tables() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(throughput.FILE.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("table", tables(), ids=lambda table: table["name"])
def test_every_table_names_its_source_its_gpu_and_what_was_measured(table: dict[str, Any]) -> None:
    source = table["source"]
    assert ("repo" in source and "commit" in source) or "package" in source
    assert source["path"]
    assert isinstance(source["date"], datetime.date)
    assert table["note"]
    assert profiles.gpu(table["gpu"]).name == table["gpu"]
    assert len(table["rows"]) >= 3
    for row in table["rows"]:
        measured = [row[measure] for measure in throughput.MEASURES if measure in row]
        assert len(measured) == 1
        assert measured[0] > 0
        assert "config" in table or "run" in row


def test_names_are_not_given_twice() -> None:
    names = [table["name"] for table in tables()]
    assert sorted(set(names)) == sorted(names)


def test_runs_are_ordered_as_they_were_measured_as_often_as_ever() -> None:
    assert throughput.ordered(published()) >= ORDERED
    assert throughput.error(published()) <= ERROR


def test_modelled_seconds_stay_within_a_factor_of_four_of_real_ones_and_are_seldom_longer() -> None:
    """Rates are those of data sheets: a run that is modelled slower than it was is charged too much."""
    ratios = [run.measured / run.modelled for table in published() for run in table.runs]
    assert min(ratios) > 0.8
    assert max(ratios) < 4


def test_the_command_prints_one_table_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.main(["hf-bert-large-v100"]) == 0
    printed = capsys.readouterr().out
    assert "1×512×4, full, checkpointing full" in printed
    assert "mpt-7b" not in printed
