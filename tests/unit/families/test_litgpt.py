"""Models as litgpt writes them: which are simulated, and what tells its releases apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.workload import (
    Adapter,
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
from memplan.estimate import estimate, trace_of
from memplan.families import architecture

TINY: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def workload(release: str = "0.5.13", **changed: Any) -> Workload:
    config = TINY | changed.pop("config", {})
    plain = Workload(
        model=architecture(config, lambda _: None),
        precision=Precision(params=Dtype.BF16),
        batch=Batch(micro=2, accumulation=2),
        sequence=Sequence(length=256),
        adapter=Adapter(targets=("query", "value"), dtype=Dtype.BF16),
        outputs=Outputs.KEPT,
        framework=Framework(code="litgpt", litgpt=release),
    )
    return replace(plain, **changed)


def peak(case: Workload) -> int:
    return int(estimate(case).device.peak_allocated)


def test_the_head_is_a_matrix_of_its_own_even_where_the_config_ties_it() -> None:
    tied = workload(config={"tie_word_embeddings": True})
    sizes = {part.name: int(part.bytes) for part in estimate(tied).device.components}
    assert sizes["decoder_matrix"] == sizes["embeddings"] == 1024 * 96 * 2


@pytest.mark.parametrize(("release", "keeps"), [("0.4.12", True), ("0.5.5", False)])
def test_older_releases_keep_what_quantized_layers_read(release: str, keeps: bool) -> None:
    quantized = workload(release, quantization=Quantization(kind="nf4"), config={"vocab_size": 64})
    dropped = replace(quantized, outputs=Outputs.DROPPED)
    # The graph of one batch lives while the next one is run, and the logits do so in any case.
    logits = 2 * 256 * 64 * Dtype.FP32.itemsize
    assert (peak(quantized) - peak(dropped) > logits) is keeps


WINDOW = {"model_type": "mistral", "sliding_window": 64}


@pytest.mark.parametrize(
    "changed",
    [
        {"config": {"model_type": "qwen3"}},
        {"config": WINDOW, "task": Task.GENERATE, "adapter": None, "generate": Generate(prompt=5)},
    ],
)
def test_what_litgpt_writes_otherwise_has_no_upper_bound(changed: dict[str, Any]) -> None:
    found = estimate(workload(**changed))
    assert any(gap.unbounded and "litgpt" in gap.reason for gap in found.device.gaps)


@pytest.mark.parametrize(("release", "masks"), [("0.4.12", 0), ("0.4.13", 4), ("0.5.13", 4)])
def test_every_layer_makes_itself_a_mask_where_there_are_windows(release: str, masks: int) -> None:
    trace = trace_of(workload(release, config=WINDOW, batch=Batch()), (8, 0))
    assert sum(tag[2] == "triu" for tag in trace.tags) == masks


@pytest.mark.parametrize(("release", "copied"), [("0.4.12", False), ("0.5.0", True)])
def test_a_copy_of_the_embeddings_is_named(release: str, copied: bool) -> None:
    found = estimate(workload(release, quantization=Quantization(kind="nf4"))).device
    named = [gap for gap in found.gaps if "embeddings" in gap.reason]
    assert bool(named) is copied
    assert all(gap.high >= 2 * 1024 * 96 * 2 for gap in named)


def test_another_loss_is_said_to_be_ignored() -> None:
    asked = workload(loss=Loss(kind="fused_linear"))
    assert peak(asked) == peak(workload())
    assert any("fused_linear is ignored" in gap.reason for gap in estimate(asked).device.gaps)


@pytest.mark.parametrize(("release", "heads"), [("0.4.12", 4), ("0.5.13", 2)])
def test_caches_hold_every_query_head_in_older_releases(release: str, heads: int) -> None:
    case = workload(
        release, task=Task.GENERATE, adapter=None, generate=Generate(prompt=5, new_tokens=50), batch=Batch()
    )
    trace = trace_of(case, (8, 0))
    sizes = [size for size, tag in zip(trace.sizes, trace.tags, strict=True) if tag[0] == "kv_cache"]
    assert sizes == [heads * 55 * 24 * 2] * 8


def test_a_release_that_is_no_number_counts_as_new() -> None:
    assert not Framework(litgpt="main").litgpt_before(0, 5)
