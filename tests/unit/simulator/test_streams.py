"""Allocations on several CUDA streams: segments are not shared, the device is."""

from __future__ import annotations

import pytest

from memplan.domain.allocator import MIB
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Trace
from memplan.simulator.allocator import Allocator, ExhaustedError
from memplan.simulator.expandable import ExpandableAllocator
from memplan.simulator.replay import replay
from memplan.simulator.streams import Streams, on_streams

KINDS = [Allocator, ExpandableAllocator]


def on(stream: int, size: int) -> int:
    return on_streams([size], {0: stream})[0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_stream_frees_does_not_serve_another(kind: type[Allocator]) -> None:
    streams = Streams(kind)
    streams.release(streams.allocate(on(0, 60 * MIB)))
    streams.release(streams.allocate(on(1, 60 * MIB)))
    streams.release(streams.allocate(on(0, 60 * MIB)))
    assert (streams.allocated, streams.reserved) == (0, 120 * MIB)


def test_a_stream_that_runs_short_gets_what_the_others_cache() -> None:
    streams = Streams(Allocator, budget=100 * MIB)
    streams.release(streams.allocate(on(0, 64 * MIB)))
    streams.allocate(on(1, 64 * MIB))
    assert (streams.allocated, streams.reserved, streams.retries) == (64 * MIB, 64 * MIB, 1)


def test_what_another_stream_uses_is_not_to_be_had() -> None:
    streams = Streams(Allocator, budget=100 * MIB)
    streams.allocate(on(0, 64 * MIB))
    with pytest.raises(ExhaustedError):
        streams.allocate(on(1, 64 * MIB))


@pytest.mark.parametrize("kind", KINDS)
def test_one_stream_alone_is_the_allocator_itself(kind: type[Allocator]) -> None:
    streams, alone = Streams(kind), kind()
    sizes = [3 * MIB, 700, 21 * MIB, 5 * MIB]
    held = [(streams.allocate(on(2, size)), alone.allocate(size)) for size in sizes]
    for one, other in held[1:3]:
        streams.release(one)
        alone.release(other)
    streams.allocate(on(2, 4 * MIB))
    alone.allocate(4 * MIB)
    assert (streams.allocated, streams.reserved) == (alone.allocated, alone.reserved)


def test_a_replay_keeps_streams_apart() -> None:
    trace = Trace()
    trace.enter(Phase.FORWARD)
    for _ in range(2):
        block = trace.allocate(64 * MIB, ("communication", "", "all_gather", (64 * MIB,), Dtype.UINT8))
        trace.streams[block] = block
        trace.free(block)
    assert replay(trace).peak.reserved == 128 * MIB
    trace.streams.clear()
    assert replay(trace).peak.reserved == 64 * MIB
