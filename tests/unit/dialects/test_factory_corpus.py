"""LLaMA-Factory, oumi and ms-swift configs of real projects: read, written and read again, each of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.dialects.reading import Reading
from memplan.domain.errors import FieldError
from memplan.domain.workload import Checkpointing

from .test_trainer_corpus import check, listed, rewritten, understood, units

OF_OTHERS = {
    "llamafactory": set[str](),
    "oumi": set[str](),
    "ms_swift": {"multi_node.yaml", "infer.yaml"},
}
"""accelerate's config, and files of answers' settings that name no model."""

READ = {"llamafactory": 36, "oumi": 121, "ms_swift": 1}
"""Training and generation; the rest is refused, mostly servers, judges, evaluations and exports."""

AS_USUAL = Checkpointing(every=1, reentrant=True)
"""LLaMA-Factory's own kind: the other needs a key more, which is not taken out again."""

FIELDS = ("batch.micro", "sequence.length", "checkpointing", "attention", "optimizer")


def taken(corpus: Path, dialect: str) -> list[tuple[Path, Reading]]:
    """The files that are read, after making sure that each other is refused at a place of it."""
    found = []
    for path in listed(corpus, dialect):
        try:
            found.append((path, understood(path)))
        except FieldError as error:
            assert error.location is not None
            assert error.location.path == str(path)
            assert "not a config" not in error.message or path.name in OF_OTHERS[dialect]
    return found


@pytest.mark.parametrize("dialect", ["llamafactory", "oumi", "ms_swift"])
def test_every_config_is_read_as_its_dialect_or_refused_at_its_line(corpus: Path, dialect: str) -> None:
    found = taken(corpus, dialect)
    assert {reading.dialect for _, reading in found} <= {dialect}
    assert len(found) == READ[dialect]


@pytest.mark.parametrize(("dialect", "least"), [("llamafactory", 15), ("oumi", 60)])
def test_every_field_changed_reads_back_as_planned_and_changed_back_is_the_file(
    corpus: Path, dialect: str, least: int
) -> None:
    written: dict[str, int] = {}
    for path, reading in taken(corpus, dialect):
        assert rewritten(reading, {})[0] == reading.document.source.text
        for changes in units(reading):
            if changes.get("checkpointing") == Checkpointing(every=1) and dialect == "llamafactory":
                changes = {"checkpointing": AS_USUAL}
            if check(path, reading, changes):
                for name in changes:
                    written[name] = written.get(name, 0) + 1
    assert min(written[name] for name in FIELDS) >= least
