"""Real runs on this machine's processor, beside what the CPU's rules predict."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import psutil
import pytest

from benchmarks import smoke_matrix
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.errors import InputError
from memplan.domain.kernels import Kernels
from memplan.domain.measurement import Comparison
from memplan.domain.trace import Phase
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Evaluation,
    Generate,
    Loss,
    Optimizer,
    Outputs,
    Precision,
    Quantization,
    Sequence,
    Task,
    Workload,
)
from memplan.smoke.device import Asked
from tests.oracle.libraries import library

torch = library("torch")
library("transformers")
library("peft")

from memplan.smoke import on_cpu  # noqa: E402
from memplan.smoke.cpu import conditions, resident  # noqa: E402
from memplan.smoke.scaled import shallower  # noqa: E402

CHECKPOINTED = "lora, checkpointed, sgd"
SHORT = {"batch": Batch(micro=1), "sequence": Sequence(length=64)}
AUTOCAST = Precision(params=Dtype.FP32, autocast=Dtype.BF16)
CLIPPED = Optimizer(name="adamw", implementation="fused", clipping=True)

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama under autocast, padded": (
        "llama",
        {
            "precision": AUTOCAST,
            "causal_mask": True,
        },
    ),
    "llama by the unfused kernel, outputs kept": (
        "llama",
        {"attention": Attention.MATH, "outputs": Outputs.KEPT},
    ),
    "qwen3, clipped, fused": ("qwen3", {"optimizer": CLIPPED}),
    "gemma2 with adapters, checkpointed": ("gemma2", smoke_matrix.SETTINGS[CHECKPOINTED]),
    "mixtral, adafactor": ("mixtral", {"optimizer": Optimizer(name="adafactor")}),
    "gpt2, accumulated, its attention dropping out": ("gpt2", {"batch": Batch(micro=1, accumulation=3)}),
    "bert": ("bert", {}),
    "t5, checkpointed": (
        "t5",
        {
            **smoke_matrix.SETTINGS["full, checkpointed, accumulated, adamw"],
        },
    ),
    "vit, one image": ("vit", {}),
    "llama, its loss in pieces": (
        "llama",
        {"loss": Loss(kind="chunked", chunks=3), "precision": Precision(params=Dtype.BF16)},
    ),
    "gemma2, its loss in pieces": ("gemma2", {"loss": Loss(kind="chunked", chunks=4)}),
    "llama, evaluated in larger batches": ("llama", {"evaluation": Evaluation(batch=4)}),
    "bert, evaluated": ("bert", {"evaluation": Evaluation(batch=0)}),
    "qwen3, logits of three batches kept": ("qwen3", {"evaluation": Evaluation(batch=3, kept=3)}),
    "gpt2 under autocast, logits of four batches kept": (
        "gpt2",
        {"precision": AUTOCAST, "evaluation": Evaluation(batch=2, kept=4)},
    ),
}
SPOKEN = {"task": Task.GENERATE, "attention": Attention.EAGER}
CASES |= {
    f"{model} generates, {cache}": (
        model,
        {**SPOKEN, "generate": Generate(prompt=48, new_tokens=4, cache=cache)},
    )
    for model, cache in (("qwen3", "dynamic"), ("gemma2", "static"), ("mixtral", "static"))
}


def workload(model: str, **settings: Any) -> Workload:
    """A model of the matrix, in two layers and on short sequences."""
    wanted: dict[str, Any] = SHORT | settings
    return shallower(smoke_matrix.workload(model, **wanted), 2)


@cache
def compared(name: str) -> Comparison:
    model, settings = CASES[name]
    return on_cpu(workload(model, **settings), Asked(steps=1))


@pytest.mark.parametrize("name", CASES)
def test_a_real_run_allocates_what_is_predicted_in_every_phase(name: str) -> None:
    found = compared(name)
    predicted = dict(found.predicted.phases)
    assert set(predicted) == {phase for phase, _ in found.measured.phases}
    for phase, seen in found.measured.phases:
        assert abs(predicted[phase] - seen) <= 0.005 * seen, phase


@pytest.mark.parametrize("name", CASES)
def test_components_at_the_peak_are_those_predicted(name: str) -> None:
    found = compared(name)
    predicted, measured = dict(found.predicted.components), dict(found.measured.components)
    assert sum(measured.values()) == found.measured.peak_allocated
    assert sum(predicted.values()) == found.predicted.peak_allocated
    for component, size in measured.items():
        assert abs(predicted[component] - size) <= 0.005 * found.measured.peak_allocated, component
    for component in ("embeddings", "decoder_matrix", "blocks", "adapter"):
        assert predicted[component] == measured[component]


def test_resident_memory_is_what_was_there_before_and_what_is_allocated() -> None:
    found = compared("llama")
    assert found.predicted.rss is not None
    assert found.measured.rss is not None
    baseline = found.predicted.rss - found.predicted.peak_allocated
    assert abs(found.predicted.rss - found.measured.rss) < 0.06 * found.measured.rss
    # Not only because the libraries outweigh the model: what the model adds is predicted by itself.
    assert abs(found.measured.rss - baseline - found.predicted.peak_allocated) < 40 * 2**20


def capped(share: float) -> Comparison:
    peak = compared("llama").predicted.peak_allocated
    return on_cpu(workload("llama"), Asked(steps=1, budget=Bytes(int(share * peak))))


def test_two_percent_below_the_predicted_peak_the_run_fails_and_says_of_what() -> None:
    found = capped(0.98)
    shortage = found.shortage
    assert not found.passed
    assert found.foreseen
    assert shortage is not None
    assert shortage.phase is Phase.OPTIMIZER
    assert shortage.allocated <= shortage.budget < shortage.allocated + shortage.tried
    assert sum(size for _, size in shortage.alive) == shortage.allocated
    for name, size in shortage.alive:
        assert abs(dict(shortage.predicted)[name] - size) < 1024, name
    assert "out of memory in optimizer" in shortage.message
    assert found.measured.peak_allocated <= shortage.budget


def test_two_percent_above_it_the_run_passes() -> None:
    found = capped(1.02)
    assert found.shortage is None
    assert not found.foreseen


def test_a_deep_model_scaled_up_from_two_depths_is_what_it_is_in_full() -> None:
    deep = shallower(workload("llama"), 9)
    found, whole = on_cpu(deep, Asked(steps=1), scaled=True), on_cpu(deep, Asked(steps=1)).measured
    assert "with 1 and with 2 of 9 layers" in found.notes[0]
    assert found.passed
    for phase, size in whole.phases:
        assert abs(dict(found.measured.phases)[phase] - size) < 4096, phase
    assert dict(found.measured.components)["blocks"] == dict(whole.components)["blocks"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"quantization": Quantization(kind="int8"), "task": Task.GENERATE},
            "(needs bitsandbytes|differ from CPU to CPU)",
        ),
        ({"attention": Attention.FLASH_ATTENTION_2}, "its attention is flash_attention_2"),
        ({"optimizer": Optimizer(name="muon")}, "its optimizer is muon"),
        ({"kernels": Kernels(liger=("rope",))}, "its kernels are Liger's"),
        ({"loss": Loss(kind="cut_cross_entropy")}, "its loss is cut_cross_entropy"),
        ({"adapter": Adapter(parameters=("experts.down_proj",))}, "its adapters"),
        ({"task": Task.GENERATE, "generate": Generate(cache="quantized")}, "its cache is quantized"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_run_is_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        on_cpu(workload("llama", **settings), Asked(steps=1))


def test_a_run_that_does_not_fit_the_free_memory_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available = 2**20

    monkeypatch.setattr(psutil, "virtual_memory", Little)
    with pytest.raises(InputError, match="are missing") as caught:
        on_cpu(workload("llama"), Asked(steps=1))
    assert "--scaled" in str(caught.value.hint)


def test_what_the_libraries_refuse_is_bad_input_and_no_defect() -> None:
    case = workload("mixtral", precision=Precision(params=Dtype.BF16))
    from memplan.families import architecture

    assert not isinstance(case.model, type(None))
    config = dict(case.model.config) | {"intermediate_size": 300}  # type: ignore[union-attr]
    with pytest.raises(InputError, match="the real run broke off"):
        on_cpu(replace(case, model=architecture(config, lambda _: None)), Asked(steps=1))


def test_every_step_is_counted() -> None:
    counted: list[None] = []
    on_cpu(workload("llama"), Asked(steps=3, advance=lambda: counted.append(None)))
    assert len(counted) == 5


def test_pytorch_is_left_as_it_was() -> None:
    threads = torch.get_num_threads()
    plain = (torch.nn.functional.dropout, torch.nn.functional.cross_entropy)
    with conditions.like_a_gpu(workload("llama")):
        assert torch.get_num_threads() == 1
        assert torch.nn.functional.dropout is not plain[0]
    assert (torch.nn.functional.dropout, torch.nn.functional.cross_entropy) == plain
    assert torch.get_num_threads() == threads


def test_the_highest_resident_set_of_a_phase_is_seen_though_it_is_over() -> None:
    resident.tidy()
    meter = resident.Resident()
    before = resident.now()
    meter.enter(Phase.FORWARD)
    large = torch.ones(2**24)
    if not meter.exact:
        meter.leave(Phase.FORWARD)
    del large
    meter.enter(Phase.BACKWARD)
    meter.finish()
    assert meter.phases[Phase.FORWARD] - before > 60 * 2**20
    assert meter.phases[Phase.BACKWARD] - before < 30 * 2**20
