"""The simulator against real training steps: the same allocations and frees, in the same order."""

from __future__ import annotations

from difflib import SequenceMatcher
from functools import cache

import pytest

from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.trace import Trace
from memplan.domain.workload import Workload
from memplan.estimate import trace_of
from tests.oracle import artefacts
from tests.oracle.cases import CASES, TINY, workload
from tests.oracle.cpu_step import second_step
from tests.oracle.family_cases import FAMILY_CASES
from tests.oracle.older_cases import OLDER_CASES

ALL = CASES | FAMILY_CASES | OLDER_CASES
SHOWN = 5


@cache
def measured(name: str) -> tuple[Workload, list[int], Trace]:
    """A case, the events of its real second step, and the simulated trace."""
    config, settings = ALL[name]
    config = TINY | config
    case = workload(config, settings)
    return case, second_step(config, case), trace_of(case, ASSUMED_CAPABILITY)


def differences(simulated: list[int], real: list[int]) -> list[str]:
    """Where two sequences differ, in words."""
    matcher = SequenceMatcher(None, simulated, real, autojunk=False)
    return [
        f"event {start}: simulated {simulated[start:end]}, real {real[begin:stop]}"
        for kind, start, end, begin, stop in matcher.get_opcodes()
        if kind != "equal"
    ]


@pytest.mark.parametrize("name", ALL)
def test_the_simulated_events_are_those_of_a_real_step(name: str) -> None:
    case, events, trace = measured(name)
    real = artefacts.of_profiler(events, case)
    simulated = artefacts.of_simulation(trace, case)
    assert len(real) > 200
    assert differences(simulated, real)[:SHOWN] == []


@pytest.mark.parametrize("name", ALL)
def test_the_peak_of_a_real_step_is_the_simulated_one_within_the_named_artefacts(name: str) -> None:
    case, events, trace = measured(name)
    peak = max(artefacts.running(events))
    simulated = max(artefacts.running(artefacts.of_simulation(trace, case)))
    assert 0 <= peak - simulated <= artefacts.allowance(case)


def test_a_step_ends_with_the_memory_it_began_with() -> None:
    case, events, trace = measured("llama gradients stay accumulated")
    assert sum(events) == 0
    assert sum(artefacts.of_simulation(trace, case)) == 0


def test_a_tensor_held_too_long_would_be_found() -> None:
    case, events, _ = measured("llama")
    real = artefacts.of_profiler(events, case)
    late = [size for size in real if size != -192_000]
    assert differences(late, real) != []
