"""``--device cuda`` on a GPU that is none: the real classes, in the memory of a simulated allocator."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memplan import profiles
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FileAccessError, InputError
from memplan.domain.measurement import Comparison
from memplan.domain.target import Target
from memplan.domain.trace import Phase
from memplan.domain.workload import (
    Attention,
    Batch,
    Evaluation,
    Generate,
    Loss,
    Precision,
    Sequence,
    Task,
    Workload,
)
from memplan.simulator.tensor import cublas_workspace
from memplan.smoke.device import Asked
from tests.oracle.libraries import library

torch = library("torch")
library("transformers")
library("peft")

from memplan.smoke.gpu.device import CudaDevice  # noqa: E402
from memplan.smoke.gpu.driver import Cuda  # noqa: E402
from memplan.smoke.gpu.emulation import card  # noqa: E402
from memplan.smoke.gpu.prediction import predict  # noqa: E402
from tests.oracle.fake_cases import case  # noqa: E402
from tests.unit.smoke.fake_gpu import FakeGpu  # noqa: E402

A100, GTX = profiles.target("a100-80gb"), profiles.target("gtx1650")
LARGER: dict[str, Any] = {"batch": Batch(micro=4), "sequence": Sequence(length=512)}
FP16 = Precision(params=Dtype.FP16)


def llama(**settings: Any) -> Workload:
    return case("llama", **{**LARGER, **settings}).workload


def ran(
    workload: Workload,
    target: Target | None = None,
    snapshot: Path | None = None,
    gpu: Callable[[FakeGpu], None] = lambda _: None,
    **asked: Any,
) -> tuple[Comparison, FakeGpu]:
    with FakeGpu(workload, A100) as driver:
        gpu(driver)
        return CudaDevice(driver, snapshot).compare(workload, target, Asked(steps=2, **asked)), driver


@pytest.mark.parametrize(
    "workload",
    [
        llama(),
        llama(lora=True, checkpointed=1),
        llama(
            precision=Precision(params=Dtype.FP32, autocast=Dtype.BF16),
            batch=Batch(micro=2, accumulation=2),
            attention=Attention.EAGER,
        ),
        llama(evaluation=Evaluation(batch=6)),
        llama(lora=True, evaluation=Evaluation(batch=4, kept=3)),
        llama(loss=Loss(kind="chunked", chunks=4)),
    ],
    ids=[
        "full",
        "lora checkpointed",
        "eager with accumulation under autocast",
        "evaluated",
        "evaluated, logits kept",
        "loss in pieces",
    ],
)
def test_counters_by_phase_are_those_predicted(workload: Workload) -> None:
    found, driver = ran(workload)
    assert found.passed
    assert (found.device, found.shortage, found.foreseen) == ("cuda", None, False)
    predicted, measured = found.predicted, found.measured
    assert predicted.peak_reserved is not None
    assert measured.peak_reserved == predicted.peak_reserved
    assert dict(measured.phases).keys() == dict(predicted.phases).keys()
    seen = dict(measured.components)
    assert sum(seen.values()) == measured.peak_allocated
    for name, amount in predicted.components:
        if name in ("embeddings", "decoder_matrix", "blocks", "adapter", "optimizer_state", "workspace"):
            assert seen[name] == amount
    assert (driver.fractions, driver.recording, driver.history()) == ([], [False], [])
    assert measured.process == measured.peak_reserved + driver.context
    assert predicted.process == predicted.peak_reserved + A100.context


def test_generated_text_is_measured_too() -> None:
    asked = Generate(prompt=64, new_tokens=3)
    found, _ = ran(llama(task=Task.GENERATE, generate=asked, attention=Attention.EAGER))
    assert found.passed
    assert set(dict(found.measured.phases)) == {Phase.LOAD, Phase.PREFILL, Phase.DECODE}
    cached = dict(found.measured.components)["kv_cache"]
    assert cached == dict(found.predicted.components)["kv_cache"] > 0
    static = llama(task=Task.GENERATE, generate=replace(asked, cache="static"))
    with pytest.raises(InputError, match="its cache is static"):
        ran(static)


def test_within_two_percent_below_the_peak_it_dies_as_foreseen_and_above_it_runs() -> None:
    whole = predict(card(llama(), None, A100, A100.usable, A100.usable), 2).measurement
    enough, driver = ran(llama(), budget=Bytes((whole.peak_reserved or 0) * 102 // 100))
    assert enough.passed
    assert driver.fractions[-1] == 1.0
    # What is cached is given back first, so the limit that kills lies below the allocated peak.
    budget = Bytes(whole.peak_allocated * 98 // 100)
    short, driver = ran(llama(), budget=budget)
    assert (short.passed, short.foreseen) == (False, True)
    assert driver.fractions[-1] == 1.0
    died = short.shortage
    assert died is not None
    assert died.budget == budget
    assert 0 < died.allocated < budget
    assert (died.phase, died.tensor) == (Phase.BACKWARD, "loss nll_loss_backward (2048, 500) fp32")
    alive, expected = dict(died.alive), dict(died.predicted)
    assert all(alive[name] == expected[name] for name in ("embeddings", "decoder_matrix", "blocks"))
    # It dies in the first step, so neither side has states of the optimizer yet.
    assert "optimizer_state" not in {**alive, **expected}
    assert sum(alive.values()) <= died.allocated
    assert any(note.startswith("PyTorch: CUDA out of memory. Tried to allocate") for note in short.notes)


def test_the_module_that_asked_is_named() -> None:
    short, _ = ran(llama(), budget=Bytes(2 * 2**20 + cublas_workspace((8, 0)) - 1))
    died = short.shortage
    assert died is not None
    assert died.phase is Phase.FORWARD
    assert died.tensor == "a tensor in layers.*.self_attn.q_proj"


def test_a_model_that_is_too_large_to_load_says_so() -> None:
    short, _ = ran(llama(), budget=Bytes(2**20))
    assert short.shortage is not None
    assert short.shortage.phase is Phase.LOAD
    assert short.measured.peak_allocated <= 2**20


def test_a_gtx1650_is_emulated_with_its_memory_and_its_kernels() -> None:
    found, driver = ran(llama(precision=FP16), GTX)
    assert found.passed
    assert driver.kernels == [(Attention.EFFICIENT, Attention.MATH)]
    assert int(driver.fractions[0] * driver.total) <= GTX.usable - GTX.context
    assert f"gtx1650 emulated on {A100.name}" in found.notes
    with pytest.raises(InputError, match="gtx1650 has no bf16"):
        ran(llama(), GTX)


def test_a_snapshot_is_what_the_allocator_recorded_and_is_there_when_it_is_needed_most(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out.pickle"
    path.write_text("an older one", encoding="utf-8")
    _, driver = ran(llama(), snapshot=path, budget=Bytes(2**24))
    assert driver.recording == [True]
    (actions,) = pickle.loads(path.read_bytes())["device_traces"]
    assert {"alloc", "free_requested", "free_completed", "oom"} == {entry["action"] for entry in actions}
    assert [item.name for item in tmp_path.iterdir()] == ["out.pickle"]


def test_a_snapshot_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "out.pickle"):
        with FakeGpu(llama(), A100) as driver, pytest.raises(FileAccessError, match=r"folder"):
            CudaDevice(driver, path).compare(llama(), None, Asked())
        assert driver.recording == []


def test_ctrl_c_leaves_no_limit_and_no_recording() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with FakeGpu(llama(), A100) as driver, pytest.raises(KeyboardInterrupt):
        CudaDevice(driver).compare(llama(), None, Asked(budget=Bytes(2**33), advance=interrupt))
    assert driver.fractions[-1] == 1.0
    assert driver.history() == []


def test_every_step_is_told() -> None:
    told: list[int] = []
    with FakeGpu(llama(), A100) as driver:
        device = CudaDevice(driver)
        asked = Asked(steps=1, advance=lambda: told.append(1))
        device.compare(llama(), None, asked)
        assert len(told) == device.pieces(asked) == 2
        assert device.pieces(Asked(steps=4)) == 4


def test_what_is_not_run_is_refused_by_name() -> None:
    several = replace(llama(), world=replace(llama().world, data_parallel=2))
    with FakeGpu(llama(), A100) as driver, pytest.raises(InputError, match="it runs on several GPUs"):
        CudaDevice(driver).compare(several, None, Asked())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_is_said_what_to_do_instead() -> None:
    with pytest.raises(InputError, match=r"CUDA|no NVIDIA GPU") as caught, Cuda():
        pass
    assert "--device fake" in str(caught.value.hint)
