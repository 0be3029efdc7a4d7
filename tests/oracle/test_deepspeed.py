"""ZeRO in the simulator against DeepSpeed itself, as ``record_deepspeed.py`` saw it run on two ranks.

At stages 1 and 2 every allocation and free of a step is the same, in the same order. At stage 3 the peaks
are: modules without parameters prefetch too, and between which two small tensors is not simulated.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.trace import Trace
from memplan.domain.workload import Workload
from memplan.domain.zero import Place
from memplan.estimate import trace_of
from memplan.simulator.replay import alive
from tests.oracle import artefacts
from tests.oracle.deepspeed_cases import CASES
from tests.oracle.deepspeed_workloads import workload

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("deepspeed_events.json").read_text())
FLAT = [name for name in CASES if not name.startswith("zero3")]
STATES = {"flat_parameters", "optimizer_state", "communication", "gradients"}
SCALARS = 1024
"""Bytes of step counters and flags."""


@cache
def simulated(name: str) -> tuple[Workload, Trace]:
    case = workload(CASES[name])
    return case, trace_of(case, ASSUMED_CAPABILITY)


@pytest.mark.parametrize("name", FLAT)
def test_every_event_of_a_step_is_that_of_deepspeed(name: str) -> None:
    case, trace = simulated(name)
    real = artefacts.of_profiler(RECORDED[name]["events"], case)
    if case.world.zero.optimizer is Place.CPU:
        # The roots of the second moments, which the optimizer takes on the host.
        *real, root, freed = real
        assert root == -freed
    assert len(real) > 200
    assert artefacts.of_simulation(trace, case) == real


@pytest.mark.parametrize("name", CASES)
def test_the_peak_of_a_step_is_that_of_deepspeed(name: str) -> None:
    case, trace = simulated(name)
    real = artefacts.of_profiler(RECORDED[name]["events"], case)
    found = artefacts.of_simulation(trace, case)
    assert max(artefacts.running(found)) == max(artefacts.running(real))


def test_what_stays_between_steps_is_what_deepspeed_keeps() -> None:
    # Only of the first case: later ones may start before the last engine is gone.
    name = next(iter(CASES))
    _, trace = simulated(name)
    held = sum(
        trace.sizes[block] for block in alive(trace, trace.cycles[-1] - 1) if trace.tags[block][0] in STATES
    )
    assert 0 <= RECORDED[name]["resident"] - held <= SCALARS
