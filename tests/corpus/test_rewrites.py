"""Real configs, rewritten: what is planned is read back, and nothing else moves."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

import pytest

from memplan.dialects import DIALECTS, edits
from memplan.documents import edits as documents
from tests.corpus.changes import proposals
from tests.corpus.laws import asked, check
from tests.corpus.outcomes import Outcome, outcomes

ENOUGH = 4
"""Files in which each value of each field of a dialect is rewritten."""

WITHOUT_FILES = ("nanogpt", "hydra", "ms_swift", "hf_trainer")
"""Dialects of which the corpus has no file that describes a run; their own tests have."""

READ_ONLY = ("native", "manifest", "hf_config", "peft_adapter")


def readings(dialect: str) -> list[Outcome]:
    """The dialect's files, shuffled the same way every time, since neighbours are alike."""
    found = [each for each in outcomes() if each.reading is not None and each.reading.dialect == dialect]
    return sorted(found, key=lambda each: sha256(each.name.encode()).digest())


def test_a_rewrite_that_changes_nothing_leaves_every_byte() -> None:
    for each in outcomes():
        reading = each.reading
        if reading is None:
            continue
        for name, wanted in proposals(reading.workload):
            same = [(field, before, before) for field, before, _ in asked(reading, wanted)]
            written, _ = edits(reading, same)
            text = reading.document.source.text
            assert documents.apply(reading.document.source, written) == text, (each.name, name)


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name not in READ_ONLY])
def test_every_field_that_can_be_written_is_read_back_and_can_be_taken_back(dialect: str) -> None:
    files = readings(dialect)
    if not files:
        assert dialect in WITHOUT_FILES
        return
    done: Counter[str] = Counter()
    for each in files:
        assert each.reading is not None
        for name, wanted in proposals(each.reading.workload):
            key = f"{name} = {tuple(wanted.values())}" if name in NAMED else name
            if done[key] < ENOUGH:
                try:
                    done[key] += check(each.reading, wanted)
                except AssertionError as error:
                    raise AssertionError(f"{each.name}: {wanted}: {error}") from error
    assert sum(done.values()) > 0, f"{dialect} writes nothing"


NAMED = ("attention", "checkpointing", "optimizer.name", "loss", "precision.params", "precision.autocast")
"""Fields whose values are few enough to try each."""
