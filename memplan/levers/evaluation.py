"""Evaluation in smaller batches: its logits are the peak of many runs whose training steps fit.

Nothing that is trained depends on it: an evaluation passes the same examples in other batches.
"""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Evaluation, Task, Workload

NAME = "evaluation"
SUMMARY = "evaluate fewer sequences at a time, and send their logits to the host sooner"
HARM = Harm.EXACT


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """Logits of fewer batches kept, down to one; then, with those of one, every smaller divisor of the batch.

    Nothing for batches that follow those of training and keep no logits: they never hold more.
    """
    asked = workload.evaluation
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN or asked is None:
        return ()
    if asked.batch == 0 and not asked.kept and not asked.makes_logits(workload.loss):
        return ()
    sooner = [_sooner(asked, kept) for kept in _halved(asked.kept)]
    return (*sooner, *(_smaller(asked, batch) for batch in _divisors(asked.batch or workload.batch.micro)))


def _sooner(asked: Evaluation, kept: int) -> Option:
    reason = (
        f"logits of {_count(kept, 'batch', 'batches')} of an evaluation are on the GPU, not of {asked.kept}"
    )
    return Option(changes={"evaluation.kept": kept}, harm=HARM, reason=reason)


def _smaller(asked: Evaluation, batch: int) -> Option:
    changes = {"evaluation.batch": batch} | ({"evaluation.kept": 1} if asked.kept > 1 else {})
    reason = f"{_count(batch, 'sequence', 'sequences')} at a time in evaluation"
    return Option(changes=changes, harm=HARM, reason=reason)


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _halved(kept: int) -> list[int]:
    """Half as many, and half of those, down to one."""
    found = []
    while kept > 1:
        kept //= 2
        found.append(kept)
    return found


def _divisors(batch: int) -> list[int]:
    """Every smaller divisor, largest first."""
    return [size for size in range(batch - 1, 0, -1) if batch % size == 0]
