"""A sample of the real runs, each planned, rewritten and read again; ``tests.corpus.plans`` does all."""

from __future__ import annotations

import pytest

from tests.corpus.outcomes import CORPUS, names
from tests.corpus.planned import GPUS, Kind, endings

EVERY = 45
"""Files from one of the sample to the next."""

SAMPLE = [name for name, _ in names()[::EVERY]] if CORPUS.is_dir() else []


@pytest.mark.parametrize("gpu", GPUS)
def test_a_plan_is_written_and_reads_as_planned_or_says_what_blocks(gpu: str) -> None:
    found = [ending for name in SAMPLE for ending in endings(name, (gpu,))]
    assert [(each.name, each.detail) for each in found if each.kind is Kind.DEFECT] == []
    assert {Kind.FITS, Kind.BLOCKED} <= {each.kind for each in found}
