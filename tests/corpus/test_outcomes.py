"""Every real config is read, or refused with a reason and a place, at once."""

from __future__ import annotations

from collections import Counter

import pytest

from memplan.dialects import DIALECTS
from tests.corpus.outcomes import CORPUS, SLOW, outcomes, table
from tests.corpus.table import GOLDEN

LEAST_READ = 0.97
"""Of the files a dialect claims whose models are known, and that train or generate."""


def test_every_file_is_read_or_refused_at_a_place_and_no_slower_than_a_blink() -> None:
    found = outcomes()  # anything but a MemplanError ends the test here
    assert len(found) > 1000
    assert [each.name for each in found if each.reading is None and each.location is None] == []
    assert [(each.name, each.seconds) for each in found if each.seconds > SLOW] == []


def test_what_is_read_and_what_is_refused_is_what_the_table_says() -> None:
    assert table() == GOLDEN.read_text(encoding="utf-8"), "python -m tests.corpus.table --update"


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name not in ("native", "manifest")])
def test_nearly_every_file_a_dialect_claims_is_read(dialect: str) -> None:
    claimed = Counter(
        each.reading is not None
        for each in outcomes()
        if each.claimed == dialect and not each.unknown and not each.beyond
    )
    assert claimed[True] >= LEAST_READ * claimed.total(), claimed


def test_no_file_is_read_as_two_formats_or_depends_on_where_it_lies() -> None:
    texts: dict[bytes, set[str | None]] = {}
    for each in outcomes():
        texts.setdefault((CORPUS / each.name).read_bytes(), set()).add(each.claimed)
    assert [claims for claims in texts.values() if len(claims) > 1] == []
