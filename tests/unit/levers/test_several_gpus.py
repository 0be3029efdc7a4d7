"""Levers of runs on several GPUs: shards for copies, and DeepSpeed's optimizer states in host memory."""

from __future__ import annotations

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.workload import Adapter, Precision, Quantization, Task, Workload, World
from memplan.domain.zero import Place, Zero
from memplan.estimate import estimate
from memplan.families import architecture
from memplan.levers import host_offload, sharding
from tests.planning import workload

MODEL = architecture(
    {
        "model_type": "llama",
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "vocab_size": 8000,
    },
    lambda _: None,
)
SMALL = Zero(reduce_bucket=100_000, prefetch_bucket=100_000, persistence=1000)


def spread(kind: str = "none", gpus: int = 4, **settings: object) -> Workload:
    world = World(data_parallel=gpus, sharding=kind, zero=SMALL)
    run = workload(micro=1, length=64).changed("model", MODEL).changed("world", world)
    for name, value in settings.items():
        run = run.changed(name.replace("__", "."), value)
    return run


def shares(run: Workload) -> list[object]:
    return [value for option in sharding.options(run, None) for value in option.changes.values()]


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (spread("none"), ["fsdp2"]),
        (spread("zero1"), ["zero2", "zero3"]),
        (spread("zero2"), ["zero3"]),
        (spread("zero3"), []),
        (spread("fsdp2"), []),
        (spread("fsdp2", world__reshard_after_forward=False), [True]),
        (spread("fsdp1", world__reshard_after_forward=False), [True]),
    ],
)
def test_more_is_spread_within_what_the_run_is_launched_with(run: Workload, found: list[object]) -> None:
    assert shares(run) == found


@pytest.mark.parametrize(
    "run",
    [
        spread("none", gpus=1),
        spread("zero1", gpus=1),
        spread("none", task=Task.GENERATE),
        spread("none", optimizer__name="adamw_8bit"),
        spread("none", framework=Framework(code="litgpt")),
        spread("none", precision=Precision(master=Dtype.FP32)),
        spread("none", adapter=Adapter(), quantization=Quantization(kind="nf4")),
        spread("zero2", adapter=Adapter(), quantization=Quantization(kind="nf4")),
    ],
    ids=["one GPU", "one under DeepSpeed", "generation", "8 bits", "litgpt", "masters", "QLoRA", "ZeRO-3"],
)
def test_what_one_gpu_or_a_part_of_the_run_cannot_share_is_not_offered(run: Workload) -> None:
    assert shares(run) == []


@pytest.mark.parametrize("kind", ["none", "zero1"])
def test_a_share_is_less_than_a_copy_and_the_fewer_the_more_gpus_there_are(kind: str) -> None:
    peaks = []
    for gpus in (2, 4, 8):
        run = spread(kind, gpus)
        last = sharding.options(run, None)[-1]
        after = estimate(run.changed("world.sharding", last.changes["world.sharding"]), None)
        assert after.device.peak_allocated < estimate(run, None).device.peak_allocated
        peaks.append(after.device.peak_allocated)
    assert peaks == sorted(peaks, reverse=True)


@pytest.mark.parametrize("kind", ["zero1", "zero2", "zero3"])
@pytest.mark.parametrize("gpus", [1, 4])
def test_states_of_deepspeeds_adam_move_to_host_memory(kind: str, gpus: int) -> None:
    run = spread(kind, gpus)
    (option,) = host_offload.options(run, None)
    assert dict(option.changes) == {"world.zero.optimizer": Place.CPU}
    before = estimate(run, None)
    after = estimate(run.changed("world.zero.optimizer", Place.CPU), None)
    assert after.device.peak_allocated < before.device.peak_allocated
    assert after.component("offloaded_optimizer") > 0
    moved = after.host.peak - before.host.peak
    assert moved >= 12 * MODEL.parameters


@pytest.mark.parametrize(
    "run",
    [
        spread("none"),
        spread("fsdp2"),
        spread("zero2", optimizer__name="adafactor"),
        spread("zero2", optimizer__name="adamw_8bit"),
        spread("zero2", world__zero__optimizer=Place.CPU),
        spread("zero2", world__zero__optimizer=Place.NVME),
        spread("zero2", task=Task.GENERATE),
    ],
)
def test_other_states_stay_where_they_are(run: Workload) -> None:
    assert host_offload.options(run, None) == ()
