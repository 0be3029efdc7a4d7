"""Attention kernels that are counted as others, and fallbacks: each is named."""

from __future__ import annotations

from typing import Any

import pytest

from memplan import profiles
from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.workload import Attention, Checkpointing, Precision, Sequence, Workload
from memplan.estimate import estimate
from memplan.families import architecture

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
FP16 = Precision(params=Dtype.FP16)


def reasons(gpu: str, config: dict[str, Any] = LLAMA, **settings: Any) -> dict[str, tuple[int, int]]:
    work = Workload(
        model=architecture(config, lambda _: None), sequence=Sequence(length=32), precision=FP16, **settings
    )
    gaps = estimate(work, profiles.target(gpu)).device.gaps
    return {gap.reason: (int(gap.low), int(gap.high)) for gap in gaps}


def only(found: dict[str, tuple[int, int]], word: str) -> list[tuple[int, int]]:
    return [bounds for reason, bounds in found.items() if word in reason]


@pytest.mark.parametrize(("checkpointing", "layers"), [(Checkpointing(), 4), (Checkpointing(every=1), 1)])
def test_grouped_heads_of_the_efficient_kernel_may_take_less(
    checkpointing: Checkpointing, layers: int
) -> None:
    expanded = 2 * layers * 2 * 16 * 32 * 2
    assert only(reasons("t4", checkpointing=checkpointing), "repeated") == [(expanded, 0)]


def test_heads_that_are_repeated_for_a_mask_are_certain() -> None:
    assert not only(reasons("t4", causal_mask=True), "repeated")
    assert not only(reasons("t4", LLAMA | {"num_key_value_heads": 4}), "repeated")


def test_older_releases_fall_back_to_the_math_kernel() -> None:
    found = reasons("t4", framework=Framework(torch="2.13"))
    assert only(found, "math kernel") == [(0, 0)]
    assert not only(found, "repeated")


def test_hopper_may_run_another_kernel() -> None:
    assert only(reasons("h100"), "cuDNN") == [(0, 4 * 16 * 32 * 4)]
    assert not only(reasons("a100"), "cuDNN")
    assert not only(reasons("h100", attention=Attention.EAGER), "cuDNN")
    assert not only(reasons("h100", framework=Framework(torch="2.9")), "cuDNN")
