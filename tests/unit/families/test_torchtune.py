"""Models as torchtune writes them: which runs are simulated, and what its recipes let go of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.workload import (
    Batch,
    Generate,
    Loss,
    Outputs,
    Precision,
    Quantization,
    Sequence,
    Task,
    Workload,
)
from memplan.estimate import estimate
from memplan.families import architecture

TINY: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def workload(**changed: Any) -> Workload:
    config = TINY | changed.pop("config", {})
    plain = Workload(
        model=architecture(config, lambda _: None),
        precision=Precision(params=Dtype.BF16),
        batch=Batch(micro=2),
        sequence=Sequence(length=256),
        framework=Framework(code="torchtune"),
    )
    return replace(plain, **changed)


def peak(case: Workload) -> int:
    return int(estimate(case).device.peak_allocated)


def test_a_tied_head_is_no_matrix_of_its_own() -> None:
    tied = estimate(workload(config={"tie_word_embeddings": True})).device
    assert "decoder_matrix" not in {part.name for part in tied.components if part.bytes}


def test_logits_are_gone_before_backward_whatever_the_loop_keeps() -> None:
    assert peak(workload(outputs=Outputs.KEPT)) == peak(workload(outputs=Outputs.DROPPED))


def test_pieces_of_logits_take_less_than_all_of_them_upcast() -> None:
    assert peak(workload(loss=Loss(kind="chunked", chunks=8))) < peak(workload())


@pytest.mark.parametrize(
    "changed",
    [
        {"config": {"model_type": "qwen2"}},
        {"config": {"attention_bias": True}},
        {"quantization": Quantization(kind="nf4")},
        {"task": Task.GENERATE, "generate": Generate(prompt=5, new_tokens=5)},
    ],
)
def test_what_torchtune_does_otherwise_has_no_upper_bound(changed: dict[str, Any]) -> None:
    found = estimate(workload(**changed))
    assert any(gap.unbounded and "torchtune" in gap.reason for gap in found.device.gaps)


def test_a_loss_that_torchtune_lacks_is_named() -> None:
    found = estimate(workload(loss=Loss(kind="fused_linear")))
    assert any("no loss fused_linear" in gap.reason for gap in found.device.gaps)
