"""Embeddings under 8-bit optimizers: what the Trainer may keep of them beyond what is counted."""

from __future__ import annotations

import pytest

from memplan.domain.workload import Adapter, Workload, World
from memplan.estimate import estimate
from tests.planning import HIDDEN, VOCABULARY, workload

EMBEDDED = HIDDEN * VOCABULARY


def wider(what: Workload) -> int:
    return sum(gap.high for gap in estimate(what).device.gaps if "32-bit states" in gap.reason)


def trained(name: str) -> Workload:
    return workload(micro=1, length=8).changed("optimizer.name", name)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (trained("adamw_8bit"), 6 * EMBEDDED),
        (trained("lion_8bit"), 3 * EMBEDDED),
        (trained("paged_adamw_8bit"), 0),
        (trained("adamw"), 0),
        (trained("adamw_8bit").changed("framework.transformers", "4.51"), 0),
        (trained("adamw_8bit").changed("framework.code", "torchtune"), 0),
        (trained("adamw_8bit").changed("adapter", Adapter()), 0),
        (trained("adamw_8bit").changed("adapter", Adapter(modules_to_save=("embed_tokens",))), 6 * EMBEDDED),
        (trained("adamw_8bit").changed("world", World(data_parallel=2, sharding="zero2")), 0),
    ],
)
def test_the_trainer_keeps_wide_states_of_embeddings_that_train(what: Workload, expected: int) -> None:
    assert wider(what) == expected
