"""Dropout as a GPU does it, in real steps: a mask of bytes and a result, where transformers drops out."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.workload import Adapter
from memplan.estimate import trace_of
from tests.oracle import artefacts
from tests.oracle.cases import CHECKPOINTED, FP32, TINY, TWICE, workload
from tests.oracle.cpu_step import second_step
from tests.oracle.libraries import library
from tests.oracle.test_events import SHOWN, differences

torch = library("torch")


class Dropped(torch.autograd.Function):  # type: ignore[misc, name-defined]
    """What ``dropout_cuda`` and its backward allocate; a CPU composes dropout of other ops."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        mask = torch.empty_like(x, dtype=torch.bool)
        ctx.save_for_backward(mask)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (_mask,) = ctx.saved_tensors
        return torch.empty_like(gradient)


def like_cuda(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """``F.dropout``."""
    assert not inplace
    return Dropped.apply(x) if training and p else x


LORA = {"adapter": Adapter(rank=8, targets=("c_attn", "c_proj"))}
NEOX = {"model_type": "gpt_neox", "hidden_dropout": 0.1, "attention_dropout": 0.1}
OPT = {"model_type": "opt", "ffn_dim": 160}
FALCON = {"model_type": "falcon", "hidden_dropout": 0.1}
SERIAL = {"parallel_attn": False, "attention_dropout": 0.2, "hidden_dropout": 0.0}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gpt2": ({"model_type": "gpt2"}, {}),
    "gpt2 fp32": ({"model_type": "gpt2"}, FP32),
    "gpt2 checkpointed": ({"model_type": "gpt2"}, CHECKPOINTED),
    "gpt2 embeddings only": ({"model_type": "gpt2", "attn_pdrop": 0, "resid_pdrop": 0}, TWICE),
    "gpt2 lora": ({"model_type": "gpt2"}, LORA | FP32),
    "gpt2 lora checkpointed": ({"model_type": "gpt2"}, LORA | FP32 | CHECKPOINTED),
    "gpt_neox": (NEOX, TWICE),
    "gpt_neox one after the other": (NEOX | {"use_parallel_residual": False}, {}),
    "opt": (OPT, {}),
    "opt attention": (OPT | {"attention_dropout": 0.1}, CHECKPOINTED),
    "falcon": (FALCON, {}),
    "falcon one after the other": (FALCON | SERIAL, FP32),
}


@pytest.mark.parametrize("name", CASES)
def test_dropout_keeps_a_byte_per_element_where_the_real_class_drops_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.functional, "dropout", like_cuda)
    config, settings = TINY | CASES[name][0], CASES[name][1]
    case = workload(config, settings)
    trace = trace_of(case, ASSUMED_CAPABILITY)
    real = artefacts.of_profiler(second_step(config, case), case)
    assert any(tag[2] == "dropout_mask" for tag in trace.tags)
    assert differences(artefacts.of_simulation(trace, case), real)[:SHOWN] == []
