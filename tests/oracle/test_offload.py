"""Activations in host memory, against real steps with real hooks: the same events, in the same order."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from memplan.domain.host import ActivationOffload
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.workload import Checkpointing, Workload
from memplan.estimate import trace_of
from tests.oracle import artefacts, cpu_step
from tests.oracle.cases import (
    ALL_LINEAR,
    ATTENTION_ONLY,
    CHECKPOINTED,
    FP32,
    REENTRANT,
    TINY,
    TWICE,
    workload,
)
from tests.oracle.host_hooks import OffloadActivations, SaveOnHost
from tests.oracle.test_events import SHOWN, differences

OFFLOADED = {"checkpointing": Checkpointing(every=1, offload=True)}
OFFLOADED_REENTRANT = {"checkpointing": Checkpointing(every=1, reentrant=True, offload=True)}
ALL = {"activation_offload": ActivationOffload.SAVE_ON_CPU}
SINGLE = {"activation_offload": ActivationOffload.SINGLE_STREAM}
STREAMS = {"activation_offload": ActivationOffload.STREAMS}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "blocks": ({}, OFFLOADED),
    "blocks lora accumulated": ({}, OFFLOADED | ATTENTION_ONLY | TWICE),
    "blocks reentrant": ({}, OFFLOADED_REENTRANT),
    "blocks reentrant lora": ({"model_type": "qwen2"}, OFFLOADED_REENTRANT | ALL_LINEAR),
    "all": ({}, ALL),
    "all checkpointed": ({}, ALL | CHECKPOINTED),
    "single": ({}, SINGLE),
    "single lora": ({}, SINGLE | ALL_LINEAR),
    "single checkpointed": ({}, SINGLE | CHECKPOINTED | FP32),
    "single reentrant": ({}, SINGLE | REENTRANT),
    "streams": ({}, STREAMS),
    "streams checkpointed": ({}, STREAMS | CHECKPOINTED),
    "streams checkpointed lora": ({}, STREAMS | CHECKPOINTED | ATTENTION_ONLY),
}


def real(config: dict[str, Any], case: Workload, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The events of a second step under the hooks that the case asks for."""
    monkeypatch.setattr("transformers.modeling_utils.save_on_cpu", SaveOnHost)
    trained = cpu_step.model(config, case)
    hooks, step = _hooks(trained, case), cpu_step._step

    def hooked(*arguments: Any) -> None:
        with hooks:
            step(*arguments)

    monkeypatch.setattr(cpu_step, "_step", hooked)
    return cpu_step.second_step_of(trained, case)


def _hooks(trained: Any, case: Workload) -> Any:
    kind = case.activation_offload
    if kind is ActivationOffload.NONE:
        return nullcontext()
    if kind is ActivationOffload.SAVE_ON_CPU:
        return SaveOnHost()
    return OffloadActivations(trained, streams=kind is ActivationOffload.STREAMS)


@pytest.mark.parametrize("name", CASES)
def test_the_simulated_events_are_those_of_a_real_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, settings = CASES[name]
    config = TINY | config
    case = workload(config, settings)
    events = artefacts.of_profiler(real(config, case, monkeypatch), case)
    simulated = artefacts.of_simulation(trace_of(case, ASSUMED_CAPABILITY), case)
    assert len(events) > 200
    assert differences(simulated, events)[:SHOWN] == []
