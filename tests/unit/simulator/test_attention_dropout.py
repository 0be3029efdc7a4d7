"""Dropout on attention probabilities: a mask where they are stored, none where the kernel does it itself."""

from __future__ import annotations

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention
from tests.unit.simulator.runs import run, shape, workload

MODELS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "phi3")


@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize(("rate", "kept"), [(0.0, 0), (0.1, 1)])
def test_eager_attention_keeps_a_mask_per_block(model_type: str, rate: float, kept: int) -> None:
    model = shape(model_type=model_type, attention_dropout=rate)
    trace = run(workload(model, attention=Attention.EAGER))
    masks = [tag for tag in trace.tags if tag[2] == "dropout_mask"]
    assert len(masks) == kept * model.num_hidden_layers
    assert {tag[4] for tag in masks} <= {Dtype.BOOL}


def test_flash_attention_drops_out_within() -> None:
    model = shape(attention_dropout=0.1)
    assert all(tag[2] != "dropout_mask" for tag in run(workload(model)).tags)
