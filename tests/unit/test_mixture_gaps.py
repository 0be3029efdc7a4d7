"""Models with experts: what is not simulated of them is named, with its bytes."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.estimate import Gap
from memplan.domain.framework import Framework
from memplan.domain.workload import Adapter, Attention, Sequence, Workload
from memplan.estimate import estimate
from memplan.families import architecture

QWEN3: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "num_experts": 8,
    "num_experts_per_tok": 2,
}
GPT_OSS = QWEN3 | {"model_type": "gpt_oss", "intermediate_size": 32, "num_local_experts": 8}
EXPERTS = 4 * 8 * 3 * 64 * 32
ATTENTION = Adapter(rank=8, targets=("q_proj", "v_proj"))


def run(config: dict[str, Any], **settings: Any) -> Workload:
    model = architecture(config, lambda _: None)
    return Workload(model=model, sequence=Sequence(length=64), **settings)


def found(workload: Workload, word: str) -> list[Gap]:
    return [gap for gap in estimate(workload).device.gaps if word in gap.reason]


def test_a_plain_run_has_no_gap_for_its_experts() -> None:
    assert not found(run(QWEN3), "expert")
    assert not found(run(QWEN3), "router")


def test_packed_experts_may_be_as_small_as_they_are_published() -> None:
    packed = GPT_OSS | {"quantization_config": {"quant_method": "mxfp4"}}
    (gap,) = found(run(packed, adapter=ATTENTION), "MXFP4")
    assert gap.low == EXPERTS * 2 - EXPERTS * 17 // 32
    assert gap.high == 0
    assert not found(run(packed), "MXFP4"), "full training updates weights it can update"
    assert not found(run(GPT_OSS, adapter=ATTENTION), "MXFP4")


def test_a_balance_loss_keeps_what_every_router_says() -> None:
    (gap,) = found(run(QWEN3 | {"output_router_logits": True}), "balance")
    assert gap.high == 64 * 8 * (2 * 4 * 2 + 4 * 4)


def test_adapters_of_routers_are_named() -> None:
    (gap,) = found(run(QWEN3, adapter=Adapter(rank=8, targets=("q_proj", "gate"))), "routers")
    assert gap.high == 4 * 4 * (3 * 8 * 64 + 4 * 8 * (8 + 64))
    assert not found(run(QWEN3, adapter=ATTENTION), "routers")


def test_experts_of_older_releases_are_named() -> None:
    assert found(run(QWEN3, framework=Framework(transformers="4.57")), "one after the other")
    assert not found(run(QWEN3), "one after the other")


@pytest.mark.parametrize("attention", [Attention.SDPA, Attention.EAGER])
def test_attention_with_sinks_is_eager_unless_told_otherwise(attention: Attention) -> None:
    asked = estimate(run(GPT_OSS, attention=attention)).device
    assert asked == estimate(run(GPT_OSS, attention=Attention.EAGER)).device
    assert found(run(GPT_OSS, attention=Attention.FLASH_ATTENTION_2), "sinks")
