"""The lever of offloaded activations: whom it offers what, and that its last option is lean."""

from __future__ import annotations

import pytest

from memplan.domain.framework import Framework
from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Checkpointing, Task, Workload
from memplan.estimate import estimate
from memplan.families import architecture
from memplan.levers import activation_offload
from memplan.levers.compatible import compatible
from tests.planning import workload

DEEP = architecture(
    {
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "vocab_size": 1000,
    },
    lambda _: None,
)


def offered(run: Workload) -> list[str]:
    return [str(option.changes["activation_offload"]) for option in activation_offload.options(run, None)]


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (ActivationOffload.NONE, ["streams"]),
        (ActivationOffload.STREAMS, ["single_stream"]),
        (ActivationOffload.SINGLE_STREAM, []),
        (ActivationOffload.SAVE_ON_CPU, []),
    ],
)
def test_only_hooks_that_keep_less_are_offered(now: ActivationOffload, found: list[str]) -> None:
    assert offered(workload().changed("activation_offload", now)) == found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", Task.GENERATE),
        ("framework", Framework(code="litgpt")),
        ("checkpointing", Checkpointing(every=1, offload=True)),
    ],
)
def test_nothing_is_offered_where_nothing_would_come_of_it(field: str, value: object) -> None:
    assert offered(workload().changed(field, value)) == []


@pytest.mark.parametrize("every", [0, 1])
def test_activations_leave_the_gpu_for_host_memory(every: int) -> None:
    run = workload(length=512).changed("model", DEEP).changed("checkpointing.every", every)
    before = estimate(run, None)
    found = [
        estimate(run.changed("activation_offload", option.changes["activation_offload"]), None)
        for option in activation_offload.options(run, None)
    ]
    peaks = [before.device.peak_allocated, *(after.device.peak_allocated for after in found)]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] < peaks[0]
    assert all(after.host.peak > before.host.peak for after in found)
    assert all(after.component("offloaded_activations") > 0 for after in found)


def test_torchtune_offloads_only_what_it_recomputes() -> None:
    run = workload().changed("framework", Framework(code="torchtune"))
    away = run.changed("activation_offload", ActivationOffload.STREAMS)
    assert compatible(run)
    assert not compatible(away)
    assert compatible(away.changed("checkpointing.every", 1))


def test_inputs_of_blocks_go_to_the_host_only_once() -> None:
    run = workload().changed("checkpointing", Checkpointing(every=1, offload=True))
    assert compatible(run)
    assert not compatible(run.changed("activation_offload", ActivationOffload.SINGLE_STREAM))
