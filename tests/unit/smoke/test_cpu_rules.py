"""The CPU's rules on traces: no run is needed to know that they keep a trace whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Generate,
    Optimizer,
    Outputs,
    Precision,
    Sequence,
    Task,
    Workload,
)
from memplan.estimate.simulation import simulated
from memplan.families import architecture
from memplan.simulator.kernels import HOST
from memplan.simulator.replay import replay
from memplan.smoke.cpu.rules import on_cpu
from memplan.smoke.cpu.unrolled import unrolled
from tests.oracle.cases import TINY

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "autocast": {"precision": Precision(params=Dtype.FP32, autocast=Dtype.BF16)},
    "adapters, checkpointed": {
        "adapter": Adapter(targets=("q_proj", "v_proj")),
        "checkpointing": Checkpointing(every=1),
    },
    "accumulated, outputs kept": {"batch": Batch(accumulation=2), "outputs": Outputs.KEPT},
    "gradients that stay": {"optimizer": Optimizer(set_to_none=False)},
    "generation": {"task": Task.GENERATE, "generate": Generate(prompt=32, new_tokens=5)},
}
CASES: dict[str, dict[str, Any]] = {
    f"{name}, {attention}": {"attention": attention, **settings}
    for name, settings in SETTINGS.items()
    for attention in (Attention.EAGER, Attention.SDPA)
}


def case(name: str) -> tuple[Workload, Trace]:
    found = Workload(model=architecture(TINY, lambda _: None), sequence=Sequence(length=32), **CASES[name])
    assert isinstance(found.model, Architecture)
    return found, simulated(found, found.model, HOST)


def balance(events: Iterable[int]) -> set[int]:
    """Blocks that are alive in the end; everything is freed at most once, and after it was made."""
    alive: set[int] = set()
    for event in events:
        if event >= 0:
            assert event not in alive
            alive.add(event)
        else:
            alive.remove(~event)
    return alive


@pytest.mark.parametrize("name", CASES)
def test_on_a_cpu_nothing_is_freed_that_was_not_made(name: str) -> None:
    workload, trace = case(name)
    made = on_cpu(trace, workload)
    balance(made.events)
    assert [phase for _, phase in made.phases] == [phase for _, phase in trace.phases]
    assert len(made.cycles) == len(trace.cycles)
    assert not any(tag[0] == "workspace" for tag in made.tags)


@pytest.mark.parametrize("name", CASES)
def test_steps_written_out_are_those_the_replay_makes(name: str) -> None:
    workload, trace = case(name)
    made = on_cpu(trace, workload)
    looped, written = replay(made, exact=True), replay(unrolled(made, 3), exact=True)
    assert written.peak.allocated == looped.peak.allocated
    assert {phase: peak.allocated for phase, peak in written.phases.items()} == {
        phase: peak.allocated for phase, peak in looped.phases.items()
    }
    balance(unrolled(made, 3).events)


def test_host_memory_is_taken_as_it_is_asked_for() -> None:
    trace = Trace()
    trace.enter(Phase.LOAD)
    for size in (1, 513, 3 * 2**20):
        trace.allocate(size, ("blocks", "", "", (size,), Dtype.UINT8))
    found = replay(trace, exact=True)
    assert found.peak.allocated == found.peak.reserved == 1 + 513 + 3 * 2**20
    assert replay(trace, exact=True, budget=514).failure is not None
    assert replay(trace, exact=True, budget=found.peak.allocated).failure is None
