"""Liger's kernels against recorded steps of Liger itself: the same allocations in the same order."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest

from memplan.domain.kernels import LIGER, Kernels
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.estimate import estimate, trace_of
from tests.oracle import artefacts, expert_artefacts
from tests.oracle.liger_cases import CASES, EVENTS, Case
from tests.oracle.test_events import SHOWN, differences


@cache
def recorded() -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads(EVENTS.read_text(encoding="utf-8"))
    return found


def simulated(case: Case) -> list[int]:
    asked = case.workload
    trace = trace_of(asked, ASSUMED_CAPABILITY)
    if case.model["model_type"] in ("gpt_oss", "mixtral", "qwen3_moe"):
        return expert_artefacts.of_simulation(trace, asked)
    return artefacts.of_simulation(trace, asked)


def settled(events: list[int]) -> list[int]:
    """Frees that follow one another in order of size.

    Of what a checkpointed norm saved, the copy of its input goes before the factors of its rows or after.
    """
    done: list[int] = []
    freed: list[int] = []
    for size in [*events, 0]:
        if size < 0:
            freed.append(size)
            continue
        done += [*sorted(freed), size]
        freed = []
    return done[:-1]


@pytest.mark.parametrize("name", CASES)
def test_the_events_are_those_liger_itself_makes(name: str) -> None:
    case = CASES[name]
    real = artefacts.of_profiler(recorded()[name], case.workload)
    ours = simulated(case)
    assert len(real) > 200
    assert differences(settled(ours), settled(real))[:SHOWN] == []
    assert max(artefacts.running(ours)) == max(artefacts.running(real))


@pytest.mark.parametrize("name", ["llama", "gemma3", "olmo2", "mixtral"])
def test_no_gap_is_named_for_what_is_recorded(name: str) -> None:
    assert not [gap for gap in estimate(CASES[name].workload).device.gaps if "Liger" in gap.reason]


def test_a_gap_is_named_for_the_kernel_of_experts() -> None:
    asked = replace(CASES["mixtral"].workload, kernels=Kernels(liger=LIGER))
    (gap,) = [gap for gap in estimate(asked).device.gaps if "Liger" in gap.reason]
    assert "of mixtral (glu)" in gap.reason
    assert gap.low > 0 == gap.high


def test_every_case_is_recorded() -> None:
    assert set(recorded()) == set(CASES)
