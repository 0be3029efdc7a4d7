"""The cost model ranks as theory says it must."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memplan import profiles
from memplan.domain.architecture import DeclaredModel
from memplan.domain.dtype import Dtype
from memplan.domain.host import ActivationOffload
from memplan.domain.target import Target
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Generate,
    Optimizer,
    Precision,
    Sequence,
    Task,
    Workload,
    World,
)
from memplan.domain.zero import Place, Zero
from memplan.families import architecture
from memplan.levers.cost import slowdown, token_seconds
from memplan.levers.cost.products import product_seconds
from memplan.levers.cost.rates import rates_of
from tests.planning import HIDDEN, INNER, LAYERS, VOCABULARY, workload

TARGETS = [
    None,
    profiles.target("rtx3090"),
    profiles.target("t4"),
    profiles.target("h100"),
    profiles.target("24GiB"),
]
LONG = workload(micro=4, accumulation=4, length=4096)
targets = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name if target else "unknown")


@targets
def test_a_workload_is_as_fast_as_itself(target: Target | None) -> None:
    assert slowdown(LONG, LONG, target) == 1.0


@targets
def test_recomputing_more_blocks_is_slower_but_never_by_more_than_a_forward_pass(
    target: Target | None,
) -> None:
    half = slowdown(LONG, LONG.changed("checkpointing", Checkpointing(every=2)), target)
    full = slowdown(LONG, LONG.changed("checkpointing", Checkpointing(every=1)), target)
    assert 1 < half < full <= 4 / 3 + 0.01
    assert full - 1 == pytest.approx(2 * (half - 1), rel=1e-6)


@targets
def test_smaller_micro_batches_are_never_faster(target: Target | None) -> None:
    times = [
        slowdown(LONG, workload(micro=micro, accumulation=16 // micro, length=4096), target)
        for micro in (4, 2, 1)
    ]
    assert times == sorted(times)


def test_tiny_batches_wait_for_the_weights() -> None:
    tiny = workload(micro=8, accumulation=1, length=16)
    one = tiny.changed("batch.micro", 1).changed("batch.accumulation", 8)
    assert slowdown(tiny, one, profiles.target("rtx3090")) > 3


@targets
def test_lora_is_faster_than_full_training(target: Target | None) -> None:
    seven_billion = profiles.model("mistralai/Mistral-7B-v0.1")
    assert seven_billion is not None
    full = replace(LONG, model=architecture(seven_billion.config, lambda _: None))
    lora = full.changed("adapter", Adapter(rank=8, targets=("q_proj", "k_proj", "v_proj", "o_proj")))
    assert 0.6 < slowdown(full, lora, target) < 1


@targets
def test_attention_that_stores_scores_is_slower(target: Target | None) -> None:
    assert slowdown(LONG, LONG.changed("attention", Attention.EAGER), target) > 1


def test_time_is_per_token_so_that_half_the_work_is_not_called_fast() -> None:
    shorter = slowdown(LONG, LONG.changed("sequence.length", 2048), None)
    assert 0.5 < shorter < 1


def test_full_checkpointing_without_attention_costs_the_forward_pass_of_the_blocks() -> None:
    # An independent count: 6·N·T for all weights in products, 2·N·T more for those of the blocks.
    blocks = LAYERS * (4 * HIDDEN**2 + 3 * HIDDEN * INNER)
    head = VOCABULARY * HIDDEN
    short = workload(micro=4096, accumulation=1, length=1)
    expected = 1 + 2 * blocks / (6 * (blocks + head))
    full = slowdown(short, short.changed("checkpointing", Checkpointing(every=1)), None)
    assert full == pytest.approx(expected, rel=0.05)


def test_declared_models_and_generation_have_no_modelled_time() -> None:
    declared = Workload(model=DeclaredModel(tensors=(), values=()))
    assert slowdown(declared, declared, None) == 1.0
    assert slowdown(LONG.changed("task", Task.GENERATE), LONG, None) == 1.0


def test_only_the_experts_a_token_passes_cost_arithmetic() -> None:
    config = {"model_type": "mixtral", "num_hidden_layers": 2, "vocab_size": 1000, "num_local_experts": 8}
    few, many = (
        replace(LONG, model=architecture(config | {"num_experts_per_tok": count}, lambda _: None))
        for count in (2, 8)
    )
    assert 2.5 < slowdown(few, many, profiles.target("h100")) < 4


def billion(**settings: Any) -> Workload:
    """Full training of Llama-3.2-1B, with other settings."""
    profile = profiles.model("meta-llama/Llama-3.2-1B")
    assert profile is not None
    model = architecture(profile.config, lambda _: None)
    what = Workload(model=model, batch=Batch(micro=4), sequence=Sequence(length=2048))
    return replace(what, **settings)


def test_one_kernel_is_faster_than_many_over_the_same_parameters() -> None:
    target = profiles.target("rtx3090")
    fused, foreach, loop, small = (
        slowdown(billion(), billion(optimizer=Optimizer(name=name, implementation=implementation)), target)
        for name, implementation in (
            ("adamw", "fused"),
            ("adamw", "foreach"),
            ("adamw", "for_loop"),
            ("adamw_8bit", "for_loop"),
        )
    )
    assert small < fused < foreach < loop


def test_paged_states_come_and_go_only_where_they_find_no_room() -> None:
    plain = billion(
        optimizer=Optimizer(implementation="for_loop"), precision=Precision(optimizer_state=Dtype.FP32)
    )
    paged = billion(optimizer=Optimizer(name="paged_adamw_32bit", implementation="for_loop"))
    roomy, tight = (slowdown(plain, paged, profiles.target(name)) for name in ("a100-80gb", "rtx3060"))
    assert roomy == 1
    assert tight > 1.03


def test_copies_beside_the_computation_cost_nothing_over_a_fast_link() -> None:
    streams, waiting = (
        billion(activation_offload=kind)
        for kind in (ActivationOffload.STREAMS, ActivationOffload.SINGLE_STREAM)
    )
    assert slowdown(billion(), streams, profiles.target("gh200")) < 1.01
    assert slowdown(billion(), waiting, profiles.target("gh200")) > 1.1
    assert slowdown(billion(), streams, profiles.target("h100")) > 1.5


def test_gpus_without_a_link_of_their_own_wait_for_each_other() -> None:
    several = billion(world=World(data_parallel=8))
    over_pcie, over_nvlink = (slowdown(billion(), several, profiles.target(name)) for name in ("a30", "a100"))
    assert over_pcie >= over_nvlink
    sharded = billion(world=World(data_parallel=8, sharding="fsdp2"), sequence=Sequence(length=128))
    plain = billion(sequence=Sequence(length=128))
    assert slowdown(plain, sharded, profiles.target("rtx3090")) > 1.3
    assert slowdown(plain, sharded, profiles.target("a100-80g-sxm")) < 1.3


def test_a_product_takes_whole_tiles_and_whole_waves_of_them() -> None:
    rates = rates_of(profiles.target("a100-80gb"))

    def seconds(tiles: int, more: int = 0) -> float:
        return product_seconds(tiles * 128 + more, 32 * 128, 4096, Dtype.BF16, rates)

    # 27 × 32 tiles are eight for each of 108 multiprocessors.
    assert seconds(27, 1) == seconds(28)
    assert seconds(27, 1) == pytest.approx(9 / 8 * seconds(27))
    assert seconds(54) == pytest.approx(2 * seconds(27))


def test_what_offloading_the_optimizer_takes_is_the_processors_time() -> None:
    alone = World(sharding="zero2")
    away = replace(alone, zero=Zero(optimizer=Place.CPU))
    parameters = 1_235_814_400
    target = profiles.target("a100-80g-sxm")
    more = token_seconds(billion(world=away), target) - token_seconds(billion(world=alone), target)
    processor = parameters * 2.57 / 10e9
    assert processor * 0.7 < more * 4 * 2048 < processor * 1.5


def test_a_new_token_costs_reading_the_weights() -> None:
    target = profiles.target("rtx3090")
    short, long = (
        billion(
            task=Task.GENERATE, batch=Batch(), generate=Generate(prompt=16, new_tokens=new, logits="last")
        )
        for new in (64, 32_768)
    )
    weights = 1_235_814_400 * 2 / 936e9
    assert weights < token_seconds(short, target) < 2 * weights
    assert slowdown(short, long, target) > 1.05
