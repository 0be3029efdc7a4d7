"""The cost model ranks as theory says it must."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan import profiles
from memplan.domain.architecture import DeclaredModel
from memplan.domain.target import Target
from memplan.domain.workload import Adapter, Attention, Checkpointing, Task, Workload
from memplan.families import architecture
from memplan.levers.cost import slowdown
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
