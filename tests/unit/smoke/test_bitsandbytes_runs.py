"""Weights and optimizer states in few bits, really run on this machine's processor."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from benchmarks import smoke_matrix
from memplan.domain.dtype import Dtype
from memplan.domain.errors import InputError
from memplan.domain.measurement import Comparison
from memplan.domain.workload import (
    Batch,
    Checkpointing,
    Evaluation,
    Generate,
    Optimizer,
    Precision,
    Quantization,
    Sequence,
    Task,
    Workload,
)
from memplan.smoke.device import Asked
from memplan.smoke.libraries import BITSANDBYTES, installed
from tests.oracle.libraries import library

torch = library("torch")
library("transformers")
library("peft")

from memplan.smoke import bitsandbytes, fake, on_cpu  # noqa: E402
from memplan.smoke.scaled import shallower  # noqa: E402

HAS_BITSANDBYTES = pytest.mark.skipif(
    installed("bitsandbytes") is None, reason="bitsandbytes is not installed: pip install bitsandbytes"
)

HALF = Precision(params=Dtype.BF16)
MIXED = Precision(params=Dtype.BF16, autocast=Dtype.BF16)
CHECKPOINTED = {"checkpointing": Checkpointing(every=1)}
LORA: dict[str, Any] = {"lora": True, "prepared": True, "precision": HALF}


def weights(kind: str, **settings: Any) -> dict[str, Any]:
    return LORA | {"quantization": Quantization(kind=kind, **settings)}


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "nf4": ("llama", weights("nf4")),
    "nf4 twice, checkpointed, autocast": (
        "qwen3",
        weights("nf4", double=True) | CHECKPOINTED | {"precision": MIXED},
    ),
    "fp4 in fp32": (
        "gemma2",
        weights("fp4", compute=Dtype.FP32) | {"precision": Precision(params=Dtype.FP32)},
    ),
    "int8": ("llama", weights("int8")),
    "int8, checkpointed by the older way": (
        "mixtral",
        weights("int8") | {"checkpointing": Checkpointing(every=1, reentrant=True)},
    ),
    "nf4 of transposed layers": ("gpt2", weights("nf4")),
    "DoRA on nf4": ("llama", weights("nf4") | {"dora": True}),
    "nf4 of an encoder": ("bert", weights("nf4")),
    "nf4, evaluated": ("llama", weights("nf4") | {"evaluation": Evaluation(batch=3)}),
    "nf4 with 8-bit states": ("llama", weights("nf4") | {"optimizer": Optimizer(name="paged_adamw_8bit")}),
    "nf4 without adapters, generating": (
        "llama",
        {
            "precision": HALF,
            "quantization": Quantization(kind="nf4", double=True),
            "task": Task.GENERATE,
            "generate": Generate(prompt=48, new_tokens=4),
        },
    ),
}
CASES |= {f"optimizer {name}": ("llama", {"optimizer": Optimizer(name=name)}) for name in BITSANDBYTES}
CASES |= {
    f"optimizer {name} in bf16": ("gpt2", {"optimizer": Optimizer(name=name), "precision": HALF})
    for name in ("adamw_8bit", "lion_8bit", "paged_lion_32bit")
}


def workload(model: str, dora: bool = False, **settings: Any) -> Workload:
    wanted: dict[str, Any] = {"batch": Batch(micro=1), "sequence": Sequence(length=64)} | settings
    made = shallower(smoke_matrix.workload(model, **wanted), 2)
    return made if made.adapter is None else replace(made, adapter=replace(made.adapter, dora=dora))


@cache
def compared(name: str) -> Comparison:
    model, settings = CASES[name]
    return on_cpu(workload(model, **settings), Asked(steps=1))


@HAS_BITSANDBYTES
@pytest.mark.parametrize("name", CASES)
def test_a_real_run_allocates_what_is_predicted_in_every_phase(name: str) -> None:
    found = compared(name)
    predicted = dict(found.predicted.phases)
    assert set(predicted) == {phase for phase, _ in found.measured.phases}
    for phase, seen in found.measured.phases:
        assert abs(predicted[phase] - seen) <= 0.005 * seen, phase


@HAS_BITSANDBYTES
def test_quantizing_one_large_weight_may_be_the_peak_of_it_all_and_is_predicted_to_the_byte() -> None:
    found = compared("nf4 without adapters, generating")
    (phase, seen), *others = found.measured.phases
    assert seen > max(size for _, size in others)
    assert dict(found.predicted.phases)[phase] == seen


@HAS_BITSANDBYTES
def test_weights_in_few_bits_are_those_predicted() -> None:
    for name in ("nf4", "int8"):
        found = compared(name)
        assert dict(found.predicted.components)["blocks"] == dict(found.measured.components)["blocks"]


@HAS_BITSANDBYTES
def test_a_package_of_kernels_is_not_asked_and_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kernels", sys)
    assert bitsandbytes.load_bitsandbytes() is not None
    assert sys.modules["kernels"] is sys


def test_without_bitsandbytes_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "memplan.smoke.libraries.installed", lambda name: None if name == "bitsandbytes" else "5.23"
    )
    with pytest.raises(InputError, match="needs bitsandbytes") as caught:
        on_cpu(workload("llama", **weights("nf4")), Asked(steps=1))
    assert "bitsandbytes" in str(caught.value.hint)
    with pytest.raises(InputError, match="needs bitsandbytes"):
        on_cpu(workload("llama", optimizer=Optimizer(name="adamw_8bit")), Asked(steps=1))


@HAS_BITSANDBYTES
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"evaluation": Evaluation(batch=2)}, "kernels that differ from CPU to CPU"),
        ({"task": Task.GENERATE, "generate": Generate(new_tokens=2)}, "kernels that differ from CPU to CPU"),
        ({"dora": True}, "PEFT does not train DoRA"),
    ],
    ids=["evaluation", "generation", "DoRA"],
)
def test_what_int8_weights_do_not_do_is_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        on_cpu(workload("llama", **weights("int8") | settings), Asked(steps=1))


def test_fake_tensors_have_no_bits_to_pack() -> None:
    with pytest.raises(InputError, match="its weights are stored as nf4; its optimizer is lion"):
        fake(workload("llama", **weights("nf4") | {"optimizer": Optimizer(name="lion")}))


@pytest.mark.parametrize(
    ("settings", "halved"),
    [
        (LORA, False),
        pytest.param(weights("nf4") | {"precision": MIXED}, True, marks=HAS_BITSANDBYTES),
    ],
    ids=["not quantized", "as TRL trains 4 bits"],
)
def test_adapters_are_prepared_as_peft_and_trl_do(settings: dict[str, Any], halved: bool) -> None:
    plain = workload("llama", **settings)
    assert plain.adapter is not None
    case = replace(plain, adapter=replace(plain.adapter, half_embeddings=halved))
    found = on_cpu(case, Asked(steps=1))
    for phase, seen in found.measured.phases:
        assert abs(dict(found.predicted.phases)[phase] - seen) <= 0.005 * seen, phase
