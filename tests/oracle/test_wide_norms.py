"""Models that scale in fp32 what they normalise, against real steps; a CPU casts the half operand first."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.workload import Adapter
from memplan.families.attention_block import PROJECTIONS
from tests.oracle import artefacts
from tests.oracle.cases import CHECKPOINTED, FP32, KEPT, TINY, TWICE, workload
from tests.oracle.cpu_step import second_step
from tests.oracle.test_events import SHOWN, differences
from tests.oracle.test_mixtures import AMPERE, simulated

OLMO2 = TINY | {"model_type": "olmo2", "num_hidden_layers": 2, "pad_token_id": 0, "eos_token_id": 0}
LORA = {"adapter": Adapter(rank=8, targets=PROJECTIONS)}
CASES: dict[str, dict[str, Any]] = {
    "full": {},
    "fp32": FP32,
    "checkpointed": CHECKPOINTED,
    "lora": LORA,
    "lora checkpointed fp32": LORA | CHECKPOINTED | FP32,
    "accumulated outputs kept": TWICE | KEPT,
}


@pytest.mark.parametrize("name", CASES)
def test_the_simulated_events_are_those_of_a_real_step(name: str) -> None:
    case = workload(OLMO2, CASES[name])
    real = artefacts.of_profiler(second_step(OLMO2, case), case)
    ours, _ = simulated(case, AMPERE)
    assert len(real) > 400
    assert max(artefacts.running(ours)) == max(artefacts.running(real))
    assert differences(ours, real)[:SHOWN] == []
