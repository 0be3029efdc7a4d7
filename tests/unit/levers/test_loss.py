"""The loss lever: what it offers for which model, library and GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan import profiles
from memplan.domain.architecture import Architecture
from memplan.domain.kernels import LIGER, Kernels
from memplan.domain.workload import Adapter, Loss, Task, Workload
from memplan.estimate import estimate
from memplan.levers import loss
from tests.planning import workload

CHUNKED, FUSED = Loss(kind="chunked", chunks=8), Loss(kind="fused_linear")
IN_PLACE = Loss(kind="liger_cross_entropy")


def offered(what: Workload, gpu: str | None = None) -> list[dict[str, object]]:
    target = profiles.target(gpu) if gpu else None
    return [dict(option.changes) for option in loss.options(what, target)]


def of_type(model_type: str, **changes: object) -> Workload:
    model = workload().model
    assert isinstance(model, Architecture)
    return replace(workload(), model=replace(model, model_type=model_type), **changes)  # type: ignore[arg-type]


def test_chunks_then_the_fused_loss_then_all_of_ligers_kernels_are_offered() -> None:
    assert offered(workload()) == [
        {"loss": CHUNKED},
        {"loss": FUSED},
        {"loss": FUSED, "kernels.liger": LIGER},
    ]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (of_type("gpt2"), [{"loss": CHUNKED}]),
        (of_type("granite"), [{"loss": CHUNKED}, {"loss": IN_PLACE, "kernels.liger": LIGER}]),
        (of_type("llama", loss=FUSED), [{"kernels.liger": LIGER}]),
        (of_type("llama", loss=FUSED, kernels=Kernels(liger=LIGER)), []),
        (of_type("llama", loss=Loss(kind="cut_cross_entropy")), []),
        (of_type("llama", loss=Loss(kind="log_probs")), []),
        (of_type("llama", task=Task.GENERATE), []),
        (of_type("llama", adapter=Adapter(modules_to_save=("lm_head",))), [{"loss": CHUNKED}]),
        (of_type("llama", loss=CHUNKED), [{"loss": FUSED}, {"loss": FUSED, "kernels.liger": LIGER}]),
    ],
)
def test_nothing_is_offered_that_a_model_cannot_have_or_has_already(
    what: Workload, expected: list[dict[str, object]]
) -> None:
    assert offered(what) == expected


@pytest.mark.parametrize(("code", "expected"), [("torchtune", [{"loss": CHUNKED}]), ("litgpt", [])])
def test_other_libraries_have_no_kernels_of_liger(code: str, expected: list[dict[str, object]]) -> None:
    assert offered(workload().changed("framework.code", code)) == expected


def test_triton_needs_volta_or_newer() -> None:
    pascal = replace(profiles.target("gtx1650"), compute_capability=(6, 1))
    assert [option.changes for option in loss.options(workload(), pascal)] == [{"loss": CHUNKED}]
    assert len(offered(workload(), "gtx1650")) == 3


def test_liger_is_a_new_package_unless_it_runs_already() -> None:
    assert [option.requires for option in loss.options(workload(), None)] == [
        (),
        ("liger-kernel",),
        ("liger-kernel",),
    ]
    running = workload().changed("loss", FUSED)
    assert [option.requires for option in loss.options(running, None)] == [()]


def test_every_option_takes_less_memory_than_the_plain_loss() -> None:
    before = estimate(workload(micro=4)).device
    for option in loss.options(workload(micro=4), None):
        after = workload(micro=4)
        for field, value in option.changes.items():
            after = after.changed(field, value)
        assert estimate(after).device.peak_allocated < before.peak_allocated
