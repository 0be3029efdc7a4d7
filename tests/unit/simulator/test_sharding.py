"""Several GPUs: what one of them holds, when it has the whole of a block, and laws of the number of GPUs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import (
    Adapter,
    Batch,
    Checkpointing,
    Optimizer,
    Quantization,
    Workload,
    World,
)
from memplan.estimate import estimate
from memplan.families import FAMILIES
from memplan.simulator.autograd import Leaf
from memplan.simulator.replay import replay
from memplan.simulator.sharding import simulated
from memplan.simulator.sharding.ddp import BROADCAST_BUCKET, FIRST_BUCKET, assigned, broadcast
from memplan.simulator.tensor import Parameter, Tape
from tests.unit.simulator.runs import AMPERE, FP32, run, shape, workload

FSDP2 = World(data_parallel=4, sharding="fsdp2")
MIXED = World(data_parallel=4, sharding="fsdp2", param_dtype=Dtype.BF16, reduce_dtype=Dtype.FP32)


def left(trace: Trace, component: str) -> int:
    """Bytes of a component that are there when a step is over."""
    alive: set[int] = set()
    for event in trace.events:
        alive.add(event) if event >= 0 else alive.discard(~event)
    return sum(trace.sizes[block] for block in alive if trace.tags[block][0] == component)


def most(trace: Trace, op: str) -> int:
    """The most bytes of an op's results that are there at once."""
    held = highest = 0
    for event in trace.events:
        block = max(event, ~event)
        if trace.tags[block][2] == op:
            held += trace.sizes[block] if event >= 0 else -trace.sizes[block]
            highest = max(highest, held)
    return highest


@pytest.mark.parametrize("component", ["embeddings", "decoder_matrix", "blocks", "optimizer_state"])
def test_a_gpu_keeps_its_share_of_what_divides(component: str) -> None:
    alone, shared = run(workload(precision=FP32)), run(workload(precision=FP32, world=FSDP2))
    buffers = 2 * 4 * 4 if component == "blocks" else 0
    whole = left(alone, component) - buffers
    assert left(shared, component) - buffers == whole // 4


def test_what_does_not_divide_is_padded() -> None:
    trace = run(workload(shape(vocab_size=97), precision=FP32, world=FSDP2))
    assert left(trace, "embeddings") == 25 * 32 * 4


def test_only_the_root_and_two_blocks_are_whole_at_once() -> None:
    def gathered(layers: int, **world: Any) -> int:
        fsdp2 = World(data_parallel=4, sharding="fsdp2", **world)
        return most(run(workload(shape(num_hidden_layers=layers), world=fsdp2)), "gathered")

    assert gathered(3) == gathered(6)
    assert gathered(6, reshard_after_forward=False) > gathered(3, reshard_after_forward=False)


def test_gathered_parameters_have_the_dtype_of_the_policy() -> None:
    trace = run(workload(precision=FP32, world=MIXED))
    dtypes = {tag[2]: tag[4] for tag in trace.tags if tag[1] == "fsdp2" or tag[2] in ("gathered", "shard")}
    assert dtypes["shard"] is Dtype.FP32
    assert dtypes["gathered"] is dtypes["all_gather"] is Dtype.BF16
    assert dtypes["reduce_scatter"] is dtypes["reduced"] is Dtype.FP32


def test_all_gathers_and_reduced_gradients_have_streams_of_their_own() -> None:
    trace = run(workload(precision=FP32, world=MIXED))
    streams = {trace.tags[block][2]: stream for block, stream in trace.streams.items()}
    assert streams == {"copy_in": 1, "all_gather": 1, "reduced": 2}
    assert replay(trace).peak.reserved > 0


def test_gradients_stay_whole_until_they_are_reduced() -> None:
    twice: dict[str, Any] = {"precision": FP32, "batch": Batch(micro=1, accumulation=2)}
    kept = run(workload(world=FSDP2, **twice))
    reduced = run(workload(world=World(data_parallel=4, sharding="fsdp2", no_sync=False), **twice))
    assert most(kept, "reduced") < most(reduced, "reduced") * 2
    assert peak(kept) > peak(reduced)


def test_full_buckets_are_closed_and_the_last_limit_repeats() -> None:
    tape = Tape(AMPERE)
    kib = 1024
    sizes = [300, 800, 10, 1500, 1400, 2600, 5]
    leaves = [
        Leaf(Parameter(tape, (size * kib // 4,), Dtype.FP32, "blocks", str(size)), str(size))
        for size in sizes
    ]
    buckets = assigned(leaves, (FIRST_BUCKET, 2 * FIRST_BUCKET))
    assert [[int(leaf.scope) for leaf in bucket] for bucket in buckets] == [
        [300, 800],
        [10, 1500, 1400],
        [2600],
        [5],
    ]


def test_parameters_are_broadcast_through_two_buffers_at_a_time() -> None:
    tape = Tape(AMPERE)
    half = (BROADCAST_BUCKET // 8,)
    _kept = [Parameter(tape, half, Dtype.FP32, "blocks", "weight") for _ in range(8)]
    broadcast(tape)
    assert most(tape.trace, "broadcast") == 2 * BROADCAST_BUCKET


def test_what_fills_a_buffer_alone_is_broadcast_as_it_is() -> None:
    tape = Tape(AMPERE)
    _kept = Parameter(tape, (BROADCAST_BUCKET // 2,), Dtype.FP32, "embeddings", "weight")
    broadcast(tape)
    assert most(tape.trace, "broadcast") == 0


def test_buckets_hold_gradients_again_unless_they_are_views() -> None:
    def found(**world: Any) -> Trace:
        return run(workload(precision=FP32, world=World(data_parallel=2, **world)))

    grads = sum(leaf_bytes(found()))
    assert left(found(), "communication") == grads
    assert left(found(gradient_as_bucket_view=True), "communication") == 0
    assert left(found(gradient_as_bucket_view=True), "gradients") == grads
    assert peak(found(gradient_as_bucket_view=True)) < peak(found())


def leaf_bytes(trace: Trace) -> list[int]:
    return [
        trace.sizes[block]
        for block, tag in enumerate(trace.tags)
        if tag[2] == "parameter" and tag[1] != "rotary_emb.inv_freq"
    ]


def peak(trace: Trace) -> int:
    return replay(trace).peak.allocated


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_on_one_gpu_nothing_is_wrapped(sharding: str) -> None:
    alone, one = run(workload()), run(workload(world=World(sharding=sharding)))
    assert (alone.events, alone.sizes, alone.tags) == (one.events, one.sizes, one.tags)


@settings(max_examples=15, deadline=None)
@given(
    few=st.integers(2, 6),
    more=st.integers(1, 6),
    mixed=st.booleans(),
    every=st.integers(0, 1),
    lora=st.booleans(),
)
def test_more_gpus_never_take_more_of_one(few: int, more: int, mixed: bool, every: int, lora: bool) -> None:
    def held(count: int) -> int:
        kind: dict[str, Any] = {"param_dtype": Dtype.BF16, "reduce_dtype": Dtype.FP32} if mixed else {}
        world = World(data_parallel=count, sharding="fsdp2", **kind)
        adapter = Adapter(rank=4, targets=("q_proj",)) if lora else None
        case = workload(
            precision=FP32, world=world, adapter=adapter, checkpointing=Checkpointing(every=every)
        )
        return sum(
            left(run(case), name) for name in ("embeddings", "decoder_matrix", "blocks", "optimizer_state")
        )

    assert held(few + more) <= held(few)


@pytest.mark.parametrize("model_type", ["gpt2", "gemma2", "falcon", "qwen3", "opt", "gpt_neox"])
def test_families_end_a_step_with_shards_alone(model_type: str) -> None:
    assert model_type in FAMILIES
    config = {"model_type": model_type, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    case = workload(shape(**config), world=FSDP2)
    trace = run(case)
    alive: set[int] = set()
    for event in trace.events:
        alive.add(event) if event >= 0 else alive.discard(~event)
    assert not {"gathered", "all_gather", "reduce_scatter", "reduced"} & {
        trace.tags[block][2] for block in alive
    }


def test_evaluation_and_clipping_run_on_shards() -> None:
    case = workload(precision=FP32, world=FSDP2, optimizer=Optimizer(clipping=True))
    assert Phase.OPTIMIZER in {phase for _, phase in run(case).phases}


NOT_SIMULATED = {
    "quantized": workload(quantization=Quantization(kind="nf4"), adapter=Adapter(), world=FSDP2),
    "reentrant": workload(checkpointing=Checkpointing(every=1, reentrant=True), world=FSDP2),
}


@pytest.mark.parametrize("name", NOT_SIMULATED)
def test_what_is_not_simulated_is_counted_whole_with_room_below(name: str) -> None:
    case: Workload = NOT_SIMULATED[name]
    assert not simulated(case)
    gaps = [gap for gap in estimate(case).device.gaps if "is not simulated here" in gap.reason]
    assert len(gaps) == 1
    assert gaps[0].low > 0


def test_nccl_is_a_bound_above_and_one_gpu_has_none() -> None:
    def reasons(count: int) -> list[str]:
        found = estimate(workload(world=World(data_parallel=count)))
        return [gap.reason for gap in found.device.gaps if gap.high and "NCCL" in gap.reason]

    assert len(reasons(2)) == 1
    assert reasons(1) == []
