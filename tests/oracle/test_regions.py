"""Real steps that checkpoint some blocks, or several as one: the same allocations in the same order.

transformers checkpoints single blocks; chunks are made of its own class for what is checkpointed, around the
model's own blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.trace import Trace
from memplan.domain.workload import Checkpointing, Workload
from memplan.estimate import trace_of
from tests.oracle import artefacts, cpu_step
from tests.oracle.cases import ALL_LINEAR, ATTENTION_ONLY, FP32, KEPT, QWEN2, TINY, TWICE, workload
from tests.oracle.libraries import library
from tests.oracle.older_cases import GPT2
from tests.oracle.test_events import SHOWN, differences

torch = library("torch")
transformers = library("transformers")

DEEP = {"num_hidden_layers": 5}


def of(setting: Checkpointing) -> dict[str, Checkpointing]:
    return {"checkpointing": setting}


PAIRS = of(Checkpointing(every=1, chunk=2))
TRIPLES = of(Checkpointing(every=1, chunk=3, reentrant=True))
OTHERS = of(Checkpointing(every=2, chunk=2, start=1))
LAST = of(Checkpointing(every=2, start=1))
SOME = of(Checkpointing(every=1, blocks=(0, 1, 3)))
SOME_REENTRANT = of(Checkpointing(every=1, blocks=(1, 2), reentrant=True))

CASES: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "llama chunks of 2": ({}, PAIRS),
    "llama chunks of 2 fp32 accumulated": ({}, PAIRS | FP32 | TWICE),
    "llama lora chunks of 2 accumulated": ({}, ALL_LINEAR | PAIRS | TWICE),
    "llama chunks of 2 outputs kept": ({}, PAIRS | KEPT),
    "llama chunks of 3 reentrant": ({}, TRIPLES),
    "qwen2 lora chunks of 3 reentrant": (QWEN2, ATTENTION_ONLY | TRIPLES),
    "llama every other chunk from a later block": ({}, OTHERS | TWICE),
    "qwen2 lora every other chunk": (QWEN2, ALL_LINEAR | OTHERS),
    "llama last of every 2": ({}, LAST),
    "llama lora last of every 2": ({}, ATTENTION_ONLY | LAST | TWICE),
    "qwen2 some blocks": (QWEN2, SOME | FP32),
    "llama lora some blocks": ({}, ALL_LINEAR | SOME),
    "llama some blocks reentrant": ({}, SOME_REENTRANT | TWICE),
    "gpt2 some blocks": (GPT2 | DEEP, SOME),
}


class Chunk(transformers.modeling_layers.GradientCheckpointingLayer):  # type: ignore[misc, name-defined]
    """Blocks that are run, and checkpointed, as one."""

    def __init__(self, layers: list[Any], single: Any) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        self.gradient_checkpointing = True
        self._gradient_checkpointing_func = single._gradient_checkpointing_func

    def forward(self, hidden_states: Any, **others: Any) -> Any:
        for layer in self.layers:
            hidden_states = layer(hidden_states, **others)
        return hidden_states


def regioned(trained: Any, workload: Workload) -> Any:
    """The model with the workload's regions in place of every block."""
    base = trained.get_base_model() if workload.adapter is not None else trained
    blocks = base.transformer if hasattr(base, "transformer") else base.model
    name = "h" if hasattr(base, "transformer") else "layers"
    layers = list(getattr(blocks, name))
    found: list[Any] = []
    regions = {region.start: region for region in workload.checkpointing.regions(len(layers))}
    index = 0
    while index < len(layers):
        region = regions.get(index, range(index, index + 1))
        members = [layers[place] for place in region]
        for member in members:
            member.gradient_checkpointing = len(members) == 1 and index in regions
        found.append(members[0] if len(members) == 1 else Chunk(members, members[0]))
        index = region.stop
    setattr(blocks, name, torch.nn.ModuleList(found))
    return trained


@cache
def measured(name: str) -> tuple[Workload, list[int], Trace]:
    """A case, the events of its real second step, and the simulated trace."""
    config, settings = CASES[name]
    config = TINY | DEEP | dict(config)
    case = workload(config, settings)
    torch.manual_seed(0)
    trained = regioned(cpu_step.model(config, case), case).train()
    return case, cpu_step.second_step_of(trained, case), trace_of(case, ASSUMED_CAPABILITY)


@pytest.mark.parametrize("name", CASES)
def test_the_simulated_events_are_those_of_a_real_step(name: str) -> None:
    case, events, trace = measured(name)
    real, simulated = artefacts.of_profiler(events, case), artefacts.of_simulation(trace, case)
    assert len(real) > 200
    assert differences(simulated, real)[:SHOWN] == []


@pytest.mark.parametrize("name", CASES)
def test_the_peak_of_a_real_step_is_the_simulated_one_within_the_named_artefacts(name: str) -> None:
    case, events, trace = measured(name)
    peak = max(artefacts.running(events))
    simulated = max(artefacts.running(artefacts.of_simulation(trace, case)))
    assert 0 <= peak - simulated <= artefacts.allowance(case)
