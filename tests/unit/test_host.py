"""Host RAM: what counts in which phase, and the verdict against the machine's RAM."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.estimate import Estimate, Verdict
from memplan.domain.host import LOADINGS, HostUse, Saving
from memplan.domain.target import Target
from memplan.domain.workload import (
    Adapter,
    Batch,
    Evaluation,
    Optimizer,
    Quantization,
    Sequence,
    Task,
    Workload,
    World,
)
from memplan.domain.zero import Place, Zero
from memplan.estimate import estimate, trace_of
from memplan.estimate.host import host
from memplan.estimate.host.pinned import block, pinned
from memplan.estimate.kept import kept
from memplan.families import architecture

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 5000,
}
SHAPE = architecture(CONFIG, lambda _: None)
LARGEST = 5000 * 512


def workload(**changes: Any) -> Workload:
    return replace(Workload(model=SHAPE, sequence=Sequence(length=64)), **changes)


def of(found: Estimate, name: str) -> int:
    return sum(int(part.bytes) for part in found.host.components if part.name == name)


def above_libraries(found: Estimate, phase: str) -> int:
    base = of(found, "libraries") + of(found, "cuda_runtime")
    return int(dict(found.host.phases)[phase]) - base


LOADED = {
    "files of the same dtype are only mapped": (HostUse(), 0),
    "converted weights are in RAM": (HostUse(published=Dtype.FP32), 2 * SHAPE.parameters),
    "straight to the GPU one tensor per thread is converted": (
        HostUse(loading="direct", published=Dtype.FP32),
        4 * 2 * LARGEST,
    ),
    "a model made in RAM is made in fp32, and cast one tensor at a time": (
        HostUse(loading="initialised"),
        4 * SHAPE.parameters + 2 * LARGEST,
    ),
    "a state dict in fp32 stands beside the model": (
        HostUse(loading="state_dict", published=Dtype.FP32),
        6 * SHAPE.parameters,
    ),
}


@pytest.mark.parametrize("name", LOADED)
def test_loading(name: str) -> None:
    use, expected = LOADED[name]
    assert above_libraries(estimate(workload(host=use)), "load") == expected


def test_quantized_weights_go_to_the_gpu_one_by_one() -> None:
    found = workload(
        host=HostUse(published=Dtype.FP32), quantization=Quantization(kind="nf4"), adapter=Adapter()
    )
    assert above_libraries(estimate(found), "load") == 4 * 2 * LARGEST


def test_mapped_files_are_told_but_not_counted() -> None:
    found = estimate(workload()).host
    assert found.mapped == 2 * SHAPE.parameters
    assert found.peak == sum(part.bytes for part in found.components)


@given(size=st.integers(1, 2**40))
def test_a_pinned_block_is_the_next_power_of_two(size: int) -> None:
    assert size <= block(size) < 2 * size
    assert block(size).bit_count() == 1


def test_nothing_takes_no_pinned_memory() -> None:
    assert pinned([0]) == 0


def test_paged_states_are_those_of_parameters_large_enough() -> None:
    found = estimate(workload(optimizer=Optimizer(name="paged_adamw_32bit"), saving=Saving(kept=0)))
    paged = sum(group.parameters for group in SHAPE.groups if group.parameters // group.copies >= 100_000)
    assert of(found, "paged_optimizer_states") == 8 * paged


def test_paged_states_may_all_be_on_the_gpu() -> None:
    paged = estimate(workload(optimizer=Optimizer(name="paged_adamw_32bit"))).host
    plain = estimate(workload(optimizer=Optimizer(name="sgd"))).host
    assert paged.high > plain.high
    assert paged.low == plain.low


def test_saving_copies_the_weights_of_a_file() -> None:
    found = estimate(workload(saving=Saving(optimizer=False)))
    assert found.host.peak_phase == "save"
    assert of(found, "checkpoint_in_saving") == 2 * SHAPE.parameters


def test_one_process_saves_but_all_of_them_load() -> None:
    one, two = (
        estimate(workload(world=World(data_parallel=count), host=HostUse(loading="initialised")))
        for count in (1, 2)
    )
    assert dict(two.host.phases)["load"] == 2 * dict(one.host.phases)["load"]
    saved = [dict(found.host.phases)["save"] - dict(found.host.phases)["train"] for found in (one, two)]
    assert saved[0] == saved[1]


def test_logits_of_an_evaluation_with_metrics_are_in_ram() -> None:
    found = estimate(workload(evaluation=Evaluation(batch=8, kept=4)))
    assert found.host.peak_phase == "evaluate"
    assert of(found, "evaluation_logits") == 8 * 4 * 64 * 5000 * 4


def test_generation_neither_feeds_nor_saves() -> None:
    found = estimate(workload(task=Task.GENERATE)).host
    assert dict(found.phases).keys() == {"load", "generate"}


@pytest.mark.parametrize(
    ("ram", "verdict"),
    [("64GiB", Verdict.FITS), ("100MiB", Verdict.DOES_NOT_FIT), ("1500MiB", Verdict.UNDECIDED)],
)
def test_a_run_fits_only_if_it_fits_the_ram_too(ram: str, verdict: Verdict) -> None:
    target = Target.of_amount(Bytes.parse("80GiB"), ram=Bytes.parse(ram))
    assert estimate(workload(), target).verdict is verdict


def test_without_known_ram_only_the_gpu_decides() -> None:
    assert estimate(workload(), Target.of_amount(Bytes.parse("80GiB"))).verdict is Verdict.FITS


def test_a_gpu_that_is_too_small_stays_too_small() -> None:
    target = Target.of_amount(Bytes.parse("1MiB"), ram=Bytes.parse("64GiB"))
    assert estimate(workload(), target).verdict is Verdict.DOES_NOT_FIT


KEPT = kept(trace_of(workload(), (8, 0)))
"""What lasts beyond a step, of the plain workload."""

uses = st.builds(
    HostUse,
    loading=st.sampled_from(LOADINGS),
    workers=st.integers(0, 4),
    prefetch=st.integers(1, 4),
    pinned=st.booleans(),
)


@settings(max_examples=25, deadline=None)
@given(use=uses, micro=st.integers(1, 3), more=st.integers(1, 3))
def test_host_ram_never_falls_when_batch_or_workers_grow(use: HostUse, micro: int, more: int) -> None:
    least = host(workload(host=use, batch=Batch(micro=micro)), KEPT)
    for grown in (
        workload(host=replace(use, workers=use.workers + more), batch=Batch(micro=micro)),
        workload(host=use, batch=Batch(micro=micro + more)),
        workload(host=use, batch=Batch(micro=micro), world=World(data_parallel=1 + more)),
    ):
        found = host(grown, KEPT)
        assert found.peak >= least.peak
        assert found.low <= found.peak <= found.high


MEASURE = """
import sys, torch
from safetensors.torch import load_file, save_file

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

SIZE = 64 * 2**20
folder = sys.argv[1]
save_file({"weight": torch.zeros(SIZE // 4)}, f"{folder}/a.safetensors")
torch.save({"weight": torch.zeros(SIZE // 4)}, f"{folder}/a.pt")
start = anonymous()
mapped = load_file(f"{folder}/a.safetensors")
read = float(mapped["weight"].sum())
between = anonymous()
loaded = torch.load(f"{folder}/a.pt")
print(between - start, anonymous() - between)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_mapped_files_take_no_anonymous_memory_and_loaded_ones_take_their_size(tmp_path: Any) -> None:
    pytest.importorskip("torch")
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    mapped, loaded = map(int, run.stdout.split())
    assert mapped < 8 * 2**20
    assert loaded == pytest.approx(64 * 2**20, rel=0.05)


def test_what_deepspeed_offloads_is_in_ram() -> None:
    world = World(data_parallel=2, sharding="zero2", zero=Zero(optimizer=Place.CPU))
    found = estimate(workload(world=world))
    assert of(found, "offloaded_optimizer") == 16 * SHAPE.parameters
    assert found.host.high > found.host.peak


def test_adapters_offload_only_their_own_states() -> None:
    world = World(data_parallel=2, sharding="zero3", zero=Zero(optimizer=Place.CPU, parameters=Place.CPU))
    found = estimate(workload(world=world, adapter=Adapter(rank=2)))
    assert 0 < of(found, "offloaded_optimizer") < SHAPE.parameters
    assert of(found, "offloaded_parameters") == 2 * SHAPE.parameters
