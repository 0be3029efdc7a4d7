"""A sample of the real runs, each planned, rewritten and read again; ``tests.corpus.plans`` does all."""

from __future__ import annotations

from tests.corpus.outcomes import names
from tests.corpus.planned import Kind, endings

EVERY = 53
"""Files from one of the sample to the next."""


def test_a_plan_is_written_and_reads_as_planned_or_says_what_blocks() -> None:
    found = [ending for name, _ in names()[::EVERY] for ending in endings(name)]
    assert [(each.name, each.gpu, each.detail) for each in found if each.kind is Kind.DEFECT] == []
    assert {Kind.FITS, Kind.APPLIED, Kind.BLOCKED} <= {each.kind for each in found}
