"""FSDP1: what one GPU keeps of its flat parameters, and what is whole, and for how long."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.workload import (
    Adapter,
    Checkpointing,
    Optimizer,
    Quantization,
    Workload,
    World,
)
from memplan.estimate import estimate
from memplan.simulator.replay import replay
from memplan.simulator.sharding import simulated
from tests.unit.simulator.runs import FP32, model_of, run, shape, workload
from tests.unit.simulator.test_sharding import left, most

FSDP1 = World(data_parallel=4, sharding="fsdp1")
FLAT = replace(FSDP1, use_orig_params=False)
MIXED = replace(FSDP1, param_dtype=Dtype.BF16, reduce_dtype=Dtype.FP32)
LORA = Adapter(rank=4, targets=("q_proj", "v_proj"))
QLORA: dict[str, Any] = {"quantization": Quantization(kind="nf4"), "adapter": LORA}


def elements(case: Workload) -> int:
    return sum(prod(group.shape) * group.copies for group in model_of(case).groups)


def peak(case: Workload) -> int:
    return replay(run(case)).peak.allocated


@pytest.mark.parametrize(("component", "times"), [("flat_parameters", 1), ("optimizer_state", 2)])
def test_a_gpu_keeps_its_share_of_the_flat_parameters(component: str, times: int) -> None:
    case = workload(precision=FP32, world=FLAT)
    assert left(run(case), component) == times * elements(case) * 4 // 4


def test_the_last_shares_are_padded() -> None:
    odd = {"hidden_size": 33, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}
    case = workload(shape(vocab_size=97, **odd), world=FLAT)
    held, share = left(run(case), "flat_parameters"), elements(case) * 2 / 4
    assert share < held <= share + 3 * 2


def test_blocks_are_whole_one_by_one_and_the_root_throughout() -> None:
    def gathered(layers: int, **settings: Any) -> int:
        world = replace(FSDP1, **settings)
        return most(run(workload(shape(num_hidden_layers=layers), world=world)), "gathered")

    assert gathered(3) == gathered(6)
    assert gathered(6, reshard_after_forward=False) > gathered(3, reshard_after_forward=False)
    assert gathered(6, backward_prefetch="none") < gathered(6)


def test_streams_are_those_of_pytorch() -> None:
    trace = run(workload(precision=FP32, world=MIXED))
    streams = {trace.tags[block][2]: stream for block, stream in trace.streams.items()}
    assert streams == {"gathered": 1, "mp_shard": 3, "reduce": 2, "reduced": 2}


def test_gradients_of_original_parameters_outlive_the_step() -> None:
    case = workload(precision=FP32, world=FSDP1)
    assert left(run(case), "gradients") >= elements(case) * 4 // 4
    assert left(run(replace(case, world=FLAT)), "gradients") == 0


def test_frozen_weights_have_gradients_only_where_they_are_wrapped_with_adapters() -> None:
    def largest(**settings: Any) -> int:
        trace = run(workload(adapter=LORA, world=FSDP1, **settings))
        return max(size for size, tag in zip(trace.sizes, trace.tags, strict=True) if tag[0] == "gradients")

    assert largest(framework=Framework(code="litgpt")) > 40 * largest()


def test_four_bit_weights_are_shared_and_their_scales_are_not() -> None:
    case = workload(world=FSDP1, **QLORA)
    alone, shared = run(replace(case, world=World())), run(case)
    packed = sum(alone.sizes[block] for block, tag in enumerate(alone.tags) if tag[2] == "packed")
    scales = sum(alone.sizes[block] for block, tag in enumerate(alone.tags) if tag[2] == "absmax")
    rest = elements(case) * 2 - packed * 4
    adapters = sum(alone.sizes[block] for block, tag in enumerate(alone.tags) if tag[0] == "adapter")
    assert left(shared, "flat_parameters") == pytest.approx((packed + rest + adapters) / 4, rel=0.01)
    assert left(shared, "blocks") >= scales


def test_checkpointing_around_wrapped_blocks_holds_their_inputs_and_gradients() -> None:
    reentrant = Checkpointing(every=1, reentrant=True)
    case = workload(
        shape(num_hidden_layers=12, vocab_size=64), adapter=LORA, checkpointing=reentrant, world=FSDP1
    )
    older = replace(case, framework=Framework(transformers="4.51"))
    assert peak(older) > peak(case)
    full = replace(case, adapter=None)
    assert peak(replace(full, framework=Framework(transformers="4.51"))) <= peak(full)


@pytest.mark.parametrize("model_type", ["gpt2", "gemma2", "falcon", "qwen3", "opt", "gpt_neox", "mixtral"])
@pytest.mark.parametrize("adapter", [None, Adapter(rank=4, targets=("dense", "c_attn", "q_proj"))])
def test_families_end_a_step_with_nothing_whole(model_type: str, adapter: Adapter | None) -> None:
    config = {"model_type": model_type, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    trace = run(workload(shape(**config), world=FLAT, adapter=adapter, optimizer=Optimizer(clipping=True)))
    alive: set[int] = set()
    for event in trace.events:
        alive.add(event) if event >= 0 else alive.discard(~event)
    assert not {"gathered", "reduce", "reduced", "cat"} & {trace.tags[block][2] for block in alive}


NOT_SIMULATED = {
    "decomposed": workload(adapter=replace(LORA, dora=True), world=FSDP1),
    "saved": workload(adapter=replace(LORA, modules_to_save=("lm_head",)), world=FSDP1),
    "int8": workload(quantization=Quantization(kind="int8"), adapter=LORA, world=FSDP1),
    "prepared": workload(
        quantization=Quantization(kind="nf4"), adapter=replace(LORA, prepare_kbit=True), world=FSDP1
    ),
}


@pytest.mark.parametrize("name", NOT_SIMULATED)
def test_what_is_not_simulated_is_counted_whole_with_room_below(name: str) -> None:
    case: Workload = NOT_SIMULATED[name]
    assert not simulated(case)
    gaps = [gap for gap in estimate(case).device.gaps if "is not simulated here" in gap.reason]
    assert [gap.low > 0 for gap in gaps] == [True]


def test_what_other_streams_still_use_is_a_bound_above() -> None:
    def bounds(**settings: Any) -> list[int]:
        found = estimate(workload(world=FSDP1, **settings)).device.gaps
        return [int(gap.high) for gap in found if "before the GPU is done" in gap.reason]

    (full,), (adapted,) = bounds(), bounds(adapter=LORA)
    assert full > adapted > 0


def test_flat_parameters_are_named_by_the_path_of_what_is_in_them() -> None:
    trace = run(workload(adapter=Adapter(rank=4, targets=("q_proj",)), world=FSDP1))
    assert {tag[1] for tag in trace.tags if tag[2] == "shard"} == {
        "_flat_param",
        "layers.*._flat_param",
        "layers.*.self_attn.q_proj.lora_A.weight._flat_param",
        "layers.*.self_attn.q_proj.lora_B.weight._flat_param",
    }
