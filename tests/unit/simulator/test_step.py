from __future__ import annotations

import gc

import pytest

from memplan.domain.trace import Phase, Tag
from memplan.domain.workload import Adapter, Batch, Checkpointing, Optimizer, Sequence
from memplan.simulator.replay import replay
from tests.unit.simulator.runs import BF16, at_start, model_of, run, workload


def gradients(tag: Tag) -> bool:
    return tag[0] == "gradients"


@pytest.mark.parametrize(("accumulation", "passes"), [(1, 1), (2, 2), (3, 2), (64, 2)])
def test_two_forward_passes_stand_for_any_number_of_accumulated_ones(accumulation: int, passes: int) -> None:
    trace = run(workload(batch=Batch(micro=1, accumulation=accumulation)))
    assert [phase for _, phase in trace.phases] == [
        Phase.LOAD,
        *[Phase.FORWARD, Phase.LOSS, Phase.BACKWARD] * passes,
        Phase.OPTIMIZER,
    ]


def test_gradients_rest_from_one_accumulated_pass_to_the_next() -> None:
    trace = run(workload(batch=Batch(micro=1, accumulation=2)))
    total = BF16.params.itemsize * model_of(workload()).parameters
    assert at_start(trace, Phase.FORWARD, gradients, which=0) == 0
    assert at_start(trace, Phase.FORWARD, gradients, which=1) == total


def test_accumulation_raises_the_peak_by_no_more_than_the_gradients() -> None:
    once = replay(run(workload(batch=Batch(micro=1)))).phases
    twice = replay(run(workload(batch=Batch(micro=1, accumulation=2)))).phases
    total = BF16.params.itemsize * model_of(workload()).parameters
    rounding = 512 * 64
    for phase in (Phase.FORWARD, Phase.LOSS, Phase.BACKWARD):
        assert once[phase].allocated <= twice[phase].allocated <= once[phase].allocated + total + rounding


def test_gradients_that_are_not_set_to_none_need_a_second_step_to_repeat() -> None:
    assert len(run(workload()).cycles) == 1
    assert len(run(workload(optimizer=Optimizer(set_to_none=False))).cycles) == 2


def test_token_ids_and_labels_are_int64() -> None:
    trace = run(workload(batch=Batch(micro=3), sequence=Sequence(length=7)))
    assert [trace.sizes[block] for block, tag in enumerate(trace.tags) if tag[1] == "inputs"] == [168, 168]


def test_the_garbage_collector_is_left_as_it_was() -> None:
    assert gc.isenabled()
    run(workload())
    assert gc.isenabled()
    gc.disable()
    try:
        run(workload())
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_simulating_leaves_nothing_for_the_garbage_collector() -> None:
    case = workload(checkpointing=Checkpointing(every=1), adapter=Adapter())
    run(case)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        run(case)
        gc.collect()
        ours = [found for found in gc.garbage if type(found).__module__.startswith("memplan.simulator")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert ours == []


def test_the_same_workload_has_the_same_trace() -> None:
    first, second = run(workload()), run(workload())
    assert (first.events, first.sizes, first.tags) == (second.events, second.sizes, second.tags)
