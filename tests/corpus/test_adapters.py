"""Real configs as LoRA, as QLoRA, with lower ranks and with shorter sequences: each reads back as planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from memplan import profiles
from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.domain.architecture import Architecture
from memplan.domain.plan import Option
from memplan.levers import adapter, sequence
from tests.corpus.laws import asked, check
from tests.corpus.test_rewrites import readings

ENOUGH = 12
"""Files of a framework, of those that each kind of change can be written into."""

TARGETS = ("gtx1650", "rtx3090")
FRAMEWORKS = ("axolotl", "trl", "llamafactory", "oumi")
"""Those of which the corpus has runs that can have adapters; of ms-swift it has none on one GPU."""


def options(reading: Reading, gpu: str) -> Iterator[tuple[str, Option]]:
    """What the levers of behaviour offer, by kind of change."""
    run, target = reading.workload, profiles.target(gpu)
    if not isinstance(run.model, Architecture):
        return
    for option in adapter.options(run, target):
        kind = "quantized" if "quantization" in option.changes else "plain"
        yield f"{kind} {'new' if run.adapter is None else 'changed'}", option
    yield from (("shorter", option) for option in sequence.options(run, target))


@pytest.mark.parametrize("gpu", TARGETS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_change_of_behaviour_reads_back_as_planned(framework: str, gpu: str) -> None:
    done: Counter[str] = Counter()
    for each in readings(framework):
        assert each.reading is not None
        for kind, option in options(each.reading, gpu):
            if done[kind] >= ENOUGH:
                continue
            try:
                done[kind] += check(each.reading, dict(option.changes))
            except AssertionError as error:
                raise AssertionError(f"{each.name}: {kind}: {error}") from error
    assert done["shorter"]
    assert sum(done.values()) >= ENOUGH


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_adapters_are_written_whole_or_not_at_all(framework: str) -> None:
    for each in readings(framework):
        assert each.reading is not None
        for _, option in options(each.reading, "rtx3090"):
            written, advice = edits(each.reading, asked(each.reading, dict(option.changes)))
            assert not (written and advice), each.name
            assert len(advice) in (0, len(option.changes)), each.name
