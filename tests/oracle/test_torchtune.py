"""torchtune's models against recorded steps of torchtune itself: the same allocations in the same order."""

from __future__ import annotations

import json
from difflib import SequenceMatcher
from functools import cache

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Loss,
    Precision,
    Sequence,
    Workload,
)
from memplan.estimate import trace_of
from memplan.families import architecture
from tests.oracle.artefacts import RNG_STATE
from tests.oracle.test_litgpt import SHOWN, SMALLEST, peak, settled
from tests.oracle.torchtune_cases import CASES, CONFIG, EVENTS, LENGTH, MICRO, RANK, Case

BATCH = MICRO * LENGTH * 8
"""Bytes of token ids, labels and what is made of them: the recipe lets go of some a little earlier."""


@cache
def recorded() -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads(EVENTS.read_text(encoding="utf-8"))
    return found


def simulated(case: Case) -> list[int]:
    """Events of the simulated step, at least 1 KiB each."""
    work = Workload(
        model=architecture(CONFIG, lambda _: None),
        precision=Precision(params=Dtype.BF16),
        batch=Batch(micro=MICRO),
        sequence=Sequence(length=LENGTH),
        adapter=Adapter(rank=RANK, targets=case.adapted, dtype=Dtype.BF16) if case.adapted else None,
        attention=Attention.FLASH_ATTENTION_2,
        checkpointing=Checkpointing(every=int(case.checkpointed)),
        loss=Loss(kind="chunked", chunks=case.chunks) if case.chunks else Loss(),
        framework=Framework(code="torchtune"),
    )
    trace = trace_of(work, ASSUMED_CAPABILITY)
    skipped = trace.once | {block for block, tag in enumerate(trace.tags) if tag[0] == "workspace"}
    events = []
    for event in trace.events[trace.cycles[-1] :]:
        block = max(event, ~event)
        if block not in skipped and trace.sizes[block] >= SMALLEST:
            events.append(trace.sizes[block] if event >= 0 else -trace.sizes[block])
    return events


def compared(events: list[int]) -> list[int]:
    """Without token ids and labels, and the generator's state that checkpointing keeps on the host."""
    return settled([size for size in events if abs(size) not in (BATCH, RNG_STATE)])


@pytest.mark.parametrize("name", CASES)
def test_the_events_are_those_torchtune_itself_makes(name: str) -> None:
    ours, theirs = compared(simulated(CASES[name])), compared(recorded()[name])
    assert len(theirs) > 400
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    found = [
        f"event {start}: simulated {ours[start:end]}, real {theirs[begin:stop]}"
        for kind, start, end, begin, stop in matcher.get_opcodes()
        if kind != "equal"
    ]
    assert found[:SHOWN] == []


@pytest.mark.parametrize("name", CASES)
def test_the_peak_is_the_one_torchtune_itself_reaches(name: str) -> None:
    regions = 3 * RNG_STATE if CASES[name].checkpointed else 0
    assert abs(peak(recorded()[name]) - peak(simulated(CASES[name]))) <= BATCH + regions
