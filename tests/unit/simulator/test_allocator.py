from __future__ import annotations

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Adapter, Attention, Batch, Checkpointing, Optimizer, Outputs, Workload
from memplan.simulator.allocator import Allocator
from memplan.simulator.replay import alive, replay
from tests.unit.simulator.runs import by_hand, run, shape, workload

KIB, MIB = 2**10, 2**20


@pytest.mark.parametrize(
    ("asked", "taken", "reserved"),
    [
        (0, 512, 2 * MIB),
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),
        (11 * MIB + 1, 12 * MIB, 12 * MIB),
        (19 * MIB, 20 * MIB, 20 * MIB),
        (100 * MIB - 1, 100 * MIB, 100 * MIB),
    ],
)
def test_a_first_request_is_rounded_up_and_reserves_a_segment_of_its_class(
    asked: int, taken: int, reserved: int
) -> None:
    allocator = Allocator()
    allocator.allocate(asked)
    assert (allocator.allocated, allocator.reserved) == (taken, reserved)


def test_a_large_block_keeps_a_rest_of_up_to_one_mebibyte() -> None:
    allocator = Allocator()
    allocator.allocate(19 * MIB - 512)
    assert allocator.allocated == 19 * MIB - 512
    tight = Allocator()
    tight.allocate(19 * MIB)
    assert tight.allocated == 20 * MIB


def test_small_and_large_requests_never_share_a_segment() -> None:
    allocator = Allocator()
    allocator.release(allocator.allocate(5 * MIB))
    allocator.allocate(512)
    assert allocator.reserved == 22 * MIB


def test_freed_memory_is_used_again_and_stays_reserved() -> None:
    allocator = Allocator()
    for _ in range(5):
        allocator.release(allocator.allocate(30 * MIB))
    assert (allocator.allocated, allocator.reserved) == (0, 30 * MIB)


def test_the_smallest_block_that_is_large_enough_is_taken() -> None:
    allocator = Allocator()
    wide, tight = allocator.allocate(40 * MIB), allocator.allocate(24 * MIB)
    allocator.release(wide)
    allocator.release(tight)
    assert allocator.allocate(24 * MIB) == tight


def test_of_equal_blocks_the_lowest_address_is_taken() -> None:
    allocator = Allocator()
    first, second = allocator.allocate(24 * MIB), allocator.allocate(24 * MIB)
    allocator.release(first)
    allocator.release(second)
    assert second < first
    assert allocator.allocate(24 * MIB) == second


def test_freed_neighbours_become_one_block() -> None:
    allocator = Allocator()
    parts = [allocator.allocate(5 * MIB) for _ in range(4)]
    assert allocator.reserved == 20 * MIB
    for part in (parts[0], parts[2], parts[3], parts[1]):
        allocator.release(part)
    allocator.allocate(20 * MIB)
    assert allocator.reserved == 20 * MIB


def test_blocks_of_different_segments_do_not_become_one() -> None:
    allocator = Allocator()
    for part in [allocator.allocate(20 * MIB) for _ in range(2)]:
        allocator.release(part)
    allocator.allocate(40 * MIB)
    assert allocator.reserved == 80 * MIB


def test_a_hole_that_is_too_small_makes_the_pool_grow() -> None:
    allocator = Allocator()
    parts = [allocator.allocate(5 * MIB) for _ in range(4)]
    allocator.release(parts[0])
    allocator.release(parts[2])
    allocator.allocate(8 * MIB)
    assert allocator.reserved == 40 * MIB


def test_a_replay_names_the_highest_point_of_each_phase() -> None:
    trace = Trace()
    tag = ("blocks", "", "", (), Dtype.UINT8)
    trace.enter(Phase.LOAD)
    trace.allocate(3 * 512, tag)
    trace.cycles.append(len(trace.events))
    trace.enter(Phase.FORWARD)
    block = trace.allocate(5 * 512, tag)
    trace.free(block)
    trace.enter(Phase.BACKWARD)
    trace.free(trace.allocate(512, tag))
    found = replay(trace)
    assert {phase: peak.allocated for phase, peak in found.phases.items()} == {
        Phase.LOAD: 3 * 512,
        Phase.FORWARD: 8 * 512,
        Phase.BACKWARD: 4 * 512,
    }
    assert (found.peak.allocated, found.peak.event, found.peak.reserved) == (8 * 512, 1, 2 * MIB)
    assert alive(trace, found.peak.event) == [0, 1]


def test_blocks_that_a_cycle_leaves_play_the_part_of_those_it_frees_in_the_next() -> None:
    trace = Trace()
    tag = ("activations", "", "", (), Dtype.UINT8)
    trace.enter(Phase.LOAD)
    held = trace.allocate(512, tag)
    trace.cycles.append(len(trace.events))
    trace.enter(Phase.FORWARD)
    trace.allocate(512, tag)
    trace.free(held)
    found = replay(trace, steps=10)
    assert found.peak.allocated == 1024


def test_a_trace_without_steps_is_replayed_once() -> None:
    trace = Trace()
    trace.enter(Phase.LOAD)
    trace.allocate(3 * MIB, ("table", "table", "weight", (), Dtype.UINT8))
    assert replay(trace).peak.allocated == 3 * MIB


LARGER = shape(hidden_size=256, intermediate_size=1024, vocab_size=4096)
REPEATED: dict[str, Workload] = {
    "full": workload(LARGER),
    "eager, outputs kept": workload(LARGER, attention=Attention.EAGER, outputs=Outputs.KEPT),
    "checkpointed": workload(LARGER, checkpointing=Checkpointing(every=1)),
    "lora": workload(LARGER, adapter=Adapter(rank=64)),
    "accumulated": workload(LARGER, batch=Batch(micro=1, accumulation=2)),
    "gradients stay": workload(LARGER, optimizer=Optimizer(set_to_none=False)),
    "fused": workload(LARGER, optimizer=Optimizer(implementation="fused")),
}


@pytest.mark.parametrize("name", REPEATED)
def test_repeating_the_last_cycle_equals_simulating_three_steps(name: str) -> None:
    short = replay(run(REPEATED[name]), steps=3)
    full = replay(by_hand(REPEATED[name], 3), steps=3)
    assert {phase: peak.allocated for phase, peak in short.phases.items()} == {
        phase: peak.allocated for phase, peak in full.phases.items()
    }
    assert short.peak.reserved == full.peak.reserved
