"""DeepSpeed's ZeRO: what no GPU may need more of when there are more of them, and how partitions are cut."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.domain.dtype import Dtype
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.trace import Trace
from memplan.domain.workload import Adapter, Batch, Precision, Sequence, Workload, World
from memplan.domain.zero import Place, Zero
from memplan.estimate import estimate, trace_of
from memplan.families import architecture
from memplan.simulator.replay import alive, replay
from memplan.simulator.sharding.zero_layout import Layout, merged

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}
SIZES = Zero(reduce_bucket=8192, prefetch_bucket=8192, persistence=640, max_live=40_000, max_reuse=40_000)
STAGES = ("zero1", "zero2", "zero3")
STATES = {"flat_parameters", "embeddings", "decoder_matrix", "blocks", "gradients", "optimizer_state"}


def workload(sharding: str, count: int, **settings: Any) -> Workload:
    """A tiny run; ``zero`` replaces the settings of ZeRO."""
    zero = settings.pop("zero", SIZES)
    return Workload(
        model=architecture(CONFIG, lambda _: None),
        precision=Precision(params=Dtype.BF16),
        sequence=Sequence(length=32),
        world=World(data_parallel=count, sharding=sharding, zero=zero),
        **settings,
    )


@cache
def trace(sharding: str, count: int) -> Trace:
    return trace_of(workload(sharding, count), ASSUMED_CAPABILITY)


def states(sharding: str, count: int) -> int:
    """Bytes of parameters, gradients and optimizer states between two steps."""
    found = trace(sharding, count)
    kept = alive(found, len(found.events) - 1)
    return sum(found.sizes[block] for block in kept if found.tags[block][0] in STATES)


@pytest.mark.parametrize("sharding", STAGES)
def test_more_gpus_never_need_more_each(sharding: str) -> None:
    peaks = [replay(trace(sharding, count)).peak.allocated for count in (1, 2, 4, 8)]
    assert peaks == sorted(peaks, reverse=True)
    kept = [states(sharding, count) for count in (2, 4, 8)]
    assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize("count", [4, 8])
def test_a_higher_stage_never_keeps_more(count: int) -> None:
    # On two GPUs stage 3 keeps as much for gradients, which stay, as it saves on parameters.
    kept = [states(sharding, count) for sharding in ("zero3", "zero2", "zero1")]
    assert kept[0] < kept[1]
    assert kept[1] <= kept[2]


@pytest.mark.parametrize("count", [2, 4, 8])
def test_fp32_masters_and_moments_are_divided_evenly(count: int) -> None:
    shape = architecture(CONFIG, lambda _: None)
    for sharding in STAGES:
        found = trace(sharding, count)
        kept = alive(found, len(found.events) - 1)
        held = sum(found.sizes[block] for block in kept if found.tags[block][0] == "optimizer_state")
        assert held == pytest.approx(12 * shape.parameters / count, rel=1e-3)


@pytest.mark.parametrize("sharding", STAGES)
def test_offloaded_optimizers_leave_nothing_of_theirs_on_the_gpu(sharding: str) -> None:
    run = workload(sharding, 2, zero=Zero(reduce_bucket=8192, optimizer=Place.CPU))
    found = estimate(run).device
    assert found.peak_allocated < estimate(workload(sharding, 2)).device.peak_allocated
    assert not any(tag[0] == "optimizer_state" for tag in trace_of(run, ASSUMED_CAPABILITY).tags)


@pytest.mark.parametrize("sharding", STAGES)
def test_steps_repeat_themselves_with_adapters_and_accumulation(sharding: str) -> None:
    adapter = Adapter(rank=8, dtype=Dtype.BF16)
    run = workload(sharding, 4, adapter=adapter, batch=Batch(accumulation=2))
    found = trace_of(run, ASSUMED_CAPABILITY)
    assert replay(found, 3).peak.allocated == replay(found, 5).peak.allocated


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 8))
def test_partitions_hold_every_element_once(sizes: list[int], count: int) -> None:
    layout = Layout(tuple(sizes), count)
    owned = [dict(layout.owned(rank)) for rank in range(count)]
    assert [sum(part.get(place, 0) for part in owned) for place in range(len(sizes))] == sizes
    assert layout.partition * count == layout.padded >= sum(sizes)
    assert layout.partition % 2 == 0


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 8))
def test_slices_are_the_parameters_cut_at_the_owners(sizes: list[int], count: int) -> None:
    layout = Layout(tuple(sizes), count)
    slices = layout.slices(range(len(sizes)), layout.starts())
    assert sum(size for _, size in slices) == sum(sizes)
    for rank in range(count):
        assert sum(size for owner, size in slices if owner == rank) == sum(dict(layout.owned(rank)).values())
    assert len(merged(slices)) == len({rank for rank, _ in slices})
    assert prod(merged(slices)) > 0


@pytest.mark.parametrize("size", [0, 1, 30_000, 10**9])
def test_sub_groups_of_any_size_hold_all_masters(size: int) -> None:
    run = workload("zero3", 2, zero=Zero(reduce_bucket=8192, sub_group=size))
    found = trace_of(run, ASSUMED_CAPABILITY)
    masters = [
        found.sizes[block]
        for block, tag in enumerate(found.tags)
        if tag[1:3] == ("fp32 partition", "parameter")
    ]
    assert sum(masters) == pytest.approx(2 * run.at("model.parameters"), rel=1e-3)
    assert all(masters)
