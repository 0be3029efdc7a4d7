"""litgpt's models against recorded steps of litgpt itself: the same allocations in the same order."""

from __future__ import annotations

import json
from difflib import SequenceMatcher
from functools import cache

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Adapter, Attention, Batch, Outputs, Precision, Sequence, Workload
from memplan.estimate import trace_of
from memplan.families import architecture
from tests.oracle.litgpt_cases import CASES, EVENTS, LENGTH, MICRO, RANK, Case

SMALLEST = 1024
SHOWN = 5
BOOKKEEPING = 4 * 1024


@cache
def recorded() -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads(EVENTS.read_text(encoding="utf-8"))
    return found


def workload(case: Case) -> Workload:
    dtype = Dtype.BF16 if case.precision == "bf16-true" else Dtype.FP32
    adapter = Adapter(rank=RANK, targets=case.adapted, dtype=dtype, dropout=case.dropout)
    return Workload(
        model=architecture(case.config, lambda _: None),
        precision=Precision(params=dtype),
        batch=Batch(micro=MICRO),
        sequence=Sequence(length=LENGTH),
        adapter=adapter if case.adapted else None,
        attention=Attention.SDPA if "sliding_window" in case.theirs else Attention.FLASH_ATTENTION_2,
        outputs=Outputs.KEPT,
        framework=Framework(code="litgpt", litgpt=case.release),
    )


def simulated(case: Case) -> list[int]:
    """The step as a CPU makes it: it casts the half factor of a product of two dtypes into a temporary."""
    trace = trace_of(workload(case), ASSUMED_CAPABILITY)
    forward = range(trace.cycles[-1], _start(trace, Phase.LOSS))
    events = []
    for index in range(trace.cycles[-1], len(trace.events)):
        event = trace.events[index]
        block = max(event, ~event)
        size, (component, scope, op, _, dtype) = trace.sizes[block], trace.tags[block]
        if size < SMALLEST or component == "workspace" or block in trace.once:
            continue
        events.append(size if event >= 0 else -size)
        mixed = op == "mul" and scope.endswith(".attn") and dtype is Dtype.FP32
        if event >= 0 and index in forward and mixed and case.precision == "bf16-true":
            events += [size, -size]
    return events


def _start(trace: Trace, phase: Phase) -> int:
    return next(start for start, found in trace.phases if found is phase)


def real(name: str) -> list[int]:
    """The recorded step without a cast that only a CPU makes: of the flags of counted tokens, to sum them."""
    events, cast = list(recorded()[name]), MICRO * (LENGTH - 1) * 8
    found = [index for index in range(len(events) - 1) if events[index : index + 2] == [cast, -cast]]
    for index in reversed(found):
        del events[index : index + 2]
    return events


def settled(events: list[int]) -> list[int]:
    """Frees that follow one another in order of size: a stand-in's saved tensors go in another order."""
    done: list[int] = []
    freed: list[int] = []
    for size in [*events, 0]:
        if size < 0:
            freed.append(size)
            continue
        done += [*sorted(freed), size]
        freed = []
    return done[:-1]


def peak(events: list[int]) -> int:
    used = top = 0
    for size in events:
        used += size
        top = max(top, used)
    return top


@pytest.mark.parametrize("name", CASES)
def test_the_events_are_those_litgpt_itself_makes(name: str) -> None:
    ours, theirs = settled(simulated(CASES[name])), settled(real(name))
    assert len(theirs) > 200
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    found = [
        f"event {start}: simulated {ours[start:end]}, real {theirs[begin:stop]}"
        for kind, start, end, begin, stop in matcher.get_opcodes()
        if kind != "equal"
    ]
    assert found[:SHOWN] == []


@pytest.mark.parametrize("name", CASES)
def test_the_peak_is_the_one_litgpt_itself_reaches(name: str) -> None:
    assert abs(peak(recorded()[name]) - peak(simulated(CASES[name]))) <= BOOKKEEPING


def test_every_case_is_recorded() -> None:
    assert set(recorded()) == set(CASES)
