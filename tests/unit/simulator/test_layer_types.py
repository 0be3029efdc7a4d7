"""Blocks of two kinds in one model: each has its own mask, its own kernel, its own rotary table."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention, Sequence, Workload
from memplan.families import architecture
from memplan.simulator.kernels import choose, in_use
from tests.unit.simulator.runs import AMPERE, run, workload

GEMMA3 = {
    "model_type": "gemma3_text",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "sliding_window": 8,
}
GEMMA2 = GEMMA3 | {"model_type": "gemma2"}
TURING = (7, 5)


def shape(config: dict[str, Any]) -> Architecture:
    return architecture(config, lambda _: None)


def trained(config: dict[str, Any], attention: Attention, length: int = 16) -> Workload:
    return workload(shape(config), attention=attention, sequence=Sequence(length=length))


def made(case: Workload) -> Counter[str]:
    """How often each op was run."""
    trace = run(case)
    return Counter(trace.tags[event][2] for event in trace.events if event >= 0)


def test_blocks_that_slide_take_the_kernel_with_a_mask_and_the_others_flash() -> None:
    counted = made(trained(GEMMA3, Attention.SDPA))
    assert (counted["efficient_attention"], counted["flash_attention"]) == (5, 1)
    assert counted["causal_mask"] == 1


def test_a_window_that_covers_the_sequence_leaves_flash_to_all_blocks() -> None:
    counted = made(trained(GEMMA3, Attention.SDPA, length=7))
    assert (counted["efficient_attention"], counted["flash_attention"]) == (0, 6)
    assert counted["causal_mask"] == 0


def test_flash_attention_2_takes_no_mask_for_a_window() -> None:
    counted = made(trained(GEMMA3, Attention.FLASH_ATTENTION_2))
    assert (counted["flash_attention"], counted["causal_mask"]) == (6, 0)


def test_eager_attention_gets_a_mask_of_either_kind() -> None:
    assert made(trained(GEMMA3, Attention.EAGER))["causal_mask"] == 2


def test_every_type_of_layer_has_a_rotary_table() -> None:
    sliding = GEMMA3 | {"layer_types": ["sliding_attention"] * 6}
    assert made(trained(GEMMA3, Attention.SDPA))["cos"] == 2
    assert made(trained(sliding, Attention.SDPA))["cos"] == 1


@pytest.mark.parametrize("capability", [TURING, AMPERE])
def test_a_model_that_caps_its_scores_runs_eager_attention_instead_of_sdpa(
    capability: tuple[int, int],
) -> None:
    case = trained(GEMMA2, Attention.SDPA)
    assert in_use(shape(GEMMA2), case, capability) == {Attention.EAGER}
    assert made(case)["flash_attention"] == 0


def test_without_flash_only_the_blocks_that_slide_escape_the_math_kernel() -> None:
    case = trained(GEMMA3, Attention.SDPA).changed("precision.params", Dtype.FP16)
    case = case.changed("framework.torch", "2.13")
    found = {kind: choose(shape(GEMMA3), case, TURING, f"{kind}_attention") for kind in ("sliding", "full")}
    assert found == {"sliding": Attention.EFFICIENT, "full": Attention.MATH}
    assert in_use(shape(GEMMA3), case, TURING) == {Attention.EFFICIENT, Attention.MATH}
