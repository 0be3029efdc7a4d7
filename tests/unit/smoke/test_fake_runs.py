"""Generation, evaluations and losses in pieces on fake tensors, beside what is predicted for a GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks import smoke_matrix
from memplan.domain.dtype import Dtype
from memplan.domain.measurement import Comparison
from memplan.domain.workload import Batch, Evaluation, Generate, Loss, Precision, Sequence, Task, Workload
from tests.oracle.libraries import library

library("torch")
library("transformers")
library("peft")

from memplan.smoke import fake  # noqa: E402
from memplan.smoke.compare import MOST_TOKENS  # noqa: E402
from memplan.smoke.scaled import shallower  # noqa: E402

HALF = Precision(params=Dtype.BF16)
MIXED = Precision(params=Dtype.FP32, autocast=Dtype.BF16)
NEAR = 0.002
"""Share of a peak: the small tensors that ``generate`` counts with take 512 bytes each on a GPU."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    f"{model} generates, {cache}": (
        model,
        {
            "precision": HALF,
            "task": Task.GENERATE,
            "generate": Generate(prompt=80, new_tokens=3, cache=cache),
        },
    )
    for model, cache in (
        ("llama", "dynamic"),
        ("qwen3", "static"),
        ("gemma2", "static"),
        ("mixtral", "dynamic"),
        ("gpt2", "dynamic"),
    )
}
CASES |= {
    "llama generates under autocast, last logits only": (
        "llama",
        {
            "precision": MIXED,
            "task": Task.GENERATE,
            "generate": Generate(prompt=80, new_tokens=3, logits="last"),
        },
    ),
    "llama, evaluated in larger batches": ("llama", {"precision": HALF, "evaluation": Evaluation(batch=4)}),
    "qwen3, logits of three batches kept": (
        "qwen3",
        {"precision": HALF, "lora": True, "evaluation": Evaluation(batch=3, kept=3)},
    ),
    "gpt2 under autocast, logits of two batches kept": (
        "gpt2",
        {"precision": MIXED, "evaluation": Evaluation(batch=3, kept=2)},
    ),
    "llama, its loss in pieces": ("llama", {"precision": HALF, "loss": Loss(kind="chunked", chunks=4)}),
    "gemma2, its loss in pieces": ("gemma2", {"precision": MIXED, "loss": Loss(kind="chunked", chunks=3)}),
}


def workload(model: str, **settings: Any) -> Workload:
    wanted: dict[str, Any] = {"batch": Batch(micro=1), "sequence": Sequence(length=64)} | settings
    return shallower(smoke_matrix.workload(model, **wanted), 2)


def compared(name: str) -> Comparison:
    model, settings = CASES[name]
    return fake(workload(model, **settings))


@pytest.mark.parametrize("name", CASES)
def test_the_real_classes_allocate_what_is_predicted_in_every_phase(name: str) -> None:
    found = compared(name)
    predicted = dict(found.predicted.phases)
    assert set(predicted) == {phase for phase, _ in found.measured.phases}
    for phase, seen in found.measured.phases:
        assert abs(predicted[phase] - seen) <= NEAR * seen, phase


def test_of_many_new_tokens_some_are_traced_and_that_is_said() -> None:
    model, settings = CASES["llama generates, dynamic"]
    long = workload(model, **settings | {"generate": Generate(prompt=16, new_tokens=200)})
    found = fake(long)
    assert f"the first {MOST_TOKENS} of 200 new tokens" in found.notes[-1]
    short = replace(long, generate=Generate(prompt=16, new_tokens=MOST_TOKENS))
    assert fake(short).measured == found.measured
    assert not any("new tokens" in note for note in fake(short).notes)
