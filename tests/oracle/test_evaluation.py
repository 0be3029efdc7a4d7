"""The simulator's evaluation batches against real ones: the same allocations and frees, in the same order."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Adapter, Batch, Evaluation, Workload
from memplan.estimate import trace_of
from memplan.families.attention_block import PROJECTIONS
from tests.oracle.artefacts import SMALLEST
from tests.oracle.cases import CHECKPOINTED, FP32, MISTRAL, TINY, workload
from tests.oracle.cpu_step import model, recorded
from tests.oracle.libraries import library
from tests.oracle.test_events import SHOWN, differences

EVALUATED = {"batch": Batch(micro=1), "evaluation": Evaluation(batch=6)}
DROPPED = {"adapter": Adapter(rank=8, targets=PROJECTIONS, dropout=0.1)}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": ({}, {}),
    "llama fp32": ({}, FP32),
    "llama checkpointed": ({}, CHECKPOINTED),
    "llama lora with dropout": ({}, DROPPED | FP32),
    "mistral": (MISTRAL, {}),
}


def of_simulation(trace: Trace, case: Workload) -> list[int]:
    start = [start for start, phase in trace.phases if phase is Phase.FORWARD][-1]
    found = [trace.sizes[max(event, ~event)] * (1 if event >= 0 else -1) for event in trace.events[start:]]
    return kept(found, case)


def kept(found: list[int], case: Workload) -> list[int]:
    """Without token ids, labels and boolean masks, whose making is not the simulator's."""
    assert case.evaluation is not None
    length, batch = case.sequence.length, case.evaluation.batch
    sizes = {length**2, batch * length * 8, batch * (length + 1) * 8}
    return [size for size in found if abs(size) >= SMALLEST and abs(size) not in sizes]


@pytest.mark.parametrize("name", CASES)
def test_the_simulated_events_are_those_of_a_real_evaluation(name: str) -> None:
    torch = library("torch")
    config, settings = CASES[name]
    config = TINY | config
    case = workload(config, EVALUATED | settings)
    trained = model(config, case).eval()
    tokens = torch.zeros((6, case.sequence.length), dtype=torch.int64)

    def run() -> None:
        with torch.no_grad():
            trained(input_ids=tokens, labels=tokens)

    run()
    real = kept(recorded(run), case)
    simulated = of_simulation(trace_of(case, ASSUMED_CAPABILITY), case)
    assert len(real) > 100
    assert differences(simulated, real)[:SHOWN] == []
