"""The chunked loss in a real training step on the CPU, against the simulated one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.workload import Loss
from memplan.estimate import trace_of
from tests.oracle import artefacts
from tests.oracle.cases import CHECKPOINTED, FP32, KEPT, TIED, TINY, workload
from tests.oracle.cpu_step import model, second_step_of
from tests.oracle.libraries import library
from tests.oracle.test_events import SHOWN, differences

torch = library("torch")

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "bf16": ({}, {}, 4),
    "uneven": ({}, {}, 5),
    "fp32": ({}, FP32, 4),
    "tied, outputs kept": (TIED, KEPT, 3),
    "checkpointed": ({}, CHECKPOINTED, 8),
}


def chunked(chunks: int) -> Any:
    """Cross-entropy as torchtune and axolotl compute it: pieces of logits are upcast one at a time."""

    def loss(logits: Any, labels: Any, **_: Any) -> Any:
        shifted = torch.nn.functional.pad(labels, (0, 1), value=-100)[..., 1:].contiguous()
        elements = (shifted != -100).sum()
        targets = [piece.reshape(-1) for piece in shifted.chunk(chunks, dim=1)]
        pieces = [piece.reshape(-1, piece.size(-1)) for piece in logits.chunk(chunks, dim=1)]
        total = 0.0
        for piece, target in zip(pieces, targets, strict=True):
            total = total + _sum(piece, target)
        return total / elements

    return loss


def _sum(logits: Any, labels: Any) -> Any:
    return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")


@pytest.mark.parametrize("name", CASES)
def test_the_simulated_events_are_those_of_a_real_step(name: str) -> None:
    changes, settings, chunks = CASES[name]
    config = TINY | changes
    case = replace(workload(config, settings), loss=Loss(kind="chunked", chunks=chunks))
    trace = trace_of(case, ASSUMED_CAPABILITY)
    trained = model(config, case)
    trained.loss_function = chunked(chunks)
    real = artefacts.of_profiler(second_step_of(trained, case), case)
    assert differences(artefacts.of_simulation(trace, case), real)[:SHOWN] == []
