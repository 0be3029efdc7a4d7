"""The lever of evaluation: fewer logits at a time, and nothing where training holds as much anyway."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.workload import Evaluation, Loss, Task, Workload
from memplan.estimate import estimate
from memplan.levers import evaluation
from tests.planning import workload


def run(batch: int = 8, kept: int = 0, *, micro: int = 1, skip_logits: bool = True) -> Workload:
    asked = Evaluation(batch=batch, kept=kept, skip_logits=skip_logits)
    return workload(micro=micro, length=64).changed("evaluation", asked)


def offered(what: Workload) -> list[dict[str, Any]]:
    return [dict(option.changes) for option in evaluation.options(what, None)]


def test_batches_go_down_through_their_divisors() -> None:
    assert offered(run(batch=6)) == [{"evaluation.batch": size} for size in (3, 2, 1)]


def test_logits_go_to_the_host_sooner_before_batches_shrink() -> None:
    assert offered(run(batch=2, kept=5)) == [
        {"evaluation.kept": 2},
        {"evaluation.kept": 1},
        {"evaluation.batch": 1, "evaluation.kept": 1},
    ]


@pytest.mark.parametrize(
    "what",
    [
        workload(),
        run(batch=1),
        run(batch=1, kept=1),
        run(batch=0, micro=8),
        run(batch=8).changed("task", Task.GENERATE),
    ],
    ids=["no evaluation", "one sequence", "one batch kept", "as training", "generation"],
)
def test_nothing_is_offered_where_nothing_can_be_saved(what: Workload) -> None:
    assert offered(what) == []


def test_batches_as_large_as_those_of_training_shrink_where_only_they_have_logits() -> None:
    fused = run(batch=0, micro=4, skip_logits=False).changed("loss", Loss(kind="fused_linear"))
    assert offered(fused) == [{"evaluation.batch": 2}, {"evaluation.batch": 1}]


@pytest.mark.parametrize("what", [run(batch=32), run(batch=8, kept=16)], ids=["batch", "kept"])
def test_every_option_holds_less_than_the_one_before(what: Workload) -> None:
    found = [what]
    for option in evaluation.options(what, None):
        after = what
        for field, value in option.changes.items():
            after = after.changed(field, value)
        found.append(after)
    peaks = [estimate(each, None).device.peak_allocated for each in found]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] < peaks[0]
