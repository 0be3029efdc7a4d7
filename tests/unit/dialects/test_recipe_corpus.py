"""Published recipe files of torchtune and litgpt: read, written and read again, each of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from time import perf_counter

import pytest

from memplan.domain.errors import FieldError
from memplan.read import read, reread

from .recipe_files import CONVERTS, changes, listed, rewritten, stood, understood

DIALECTS = ["torchtune", "litgpt"]
SLOWEST = 0.1
"""Seconds that a file may take."""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_file_is_read_as_its_dialect_in_no_time(corpus: Path, dialect: str) -> None:
    times = []
    for path in listed(corpus, dialect):
        start = perf_counter()
        reading = understood(path)
        assert reading.dialect == dialect
        assert rewritten(reading, {}) == (reading.document.source.text, True)
        times.append(perf_counter() - start)
    assert sorted(times)[len(times) // 2] < SLOWEST


def test_a_recipe_that_converts_weights_is_refused(corpus: Path) -> None:
    path = corpus / "pytorch+torchtune" / "recipes" / "configs" / CONVERTS
    with pytest.raises(FieldError, match="nothing here is trained") as caught:
        read(path)
    assert caught.value.location is not None


@pytest.mark.parametrize(
    ("dialect", "part"), [("torchtune", 0), ("torchtune", 1), ("torchtune", 2), ("litgpt", 0)]
)
def test_every_field_changed_reads_back_as_planned_and_changed_back_is_the_file(
    corpus: Path, dialect: str, part: int
) -> None:
    counts: Counter[str] = Counter()
    for path in listed(corpus, dialect)[part :: 3 if dialect == "torchtune" else 1]:
        reading = understood(path)
        for wanted in changes(reading):
            text, possible = rewritten(reading, wanted)
            if not possible:
                assert text == reading.document.source.text
                continue
            again = reread(reading, {str(path): text})
            planned = reading.workload
            for name, after in wanted.items():
                planned = planned.changed(name, after)
            assert again.workload == planned, path
            assert rewritten(again, wanted) == (text, True)
            counts.update(list(wanted))
            if all(stood(reading, name) for name in wanted):
                before = {name: reading.workload.at(name) for name in wanted}
                assert rewritten(again, before)[0] == reading.document.source.text
    assert min(counts[name] for name in ("batch.micro", "sequence.length", "adapter.rank")) >= 13
