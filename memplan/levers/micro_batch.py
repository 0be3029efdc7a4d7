"""Fewer sequences at a time, more passes per optimizer step: the same batch, in smaller bites."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload

NAME = "micro_batch"
SUMMARY = "smaller micro-batch, more accumulation, the same global batch"
HARM = Harm.EXACT


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """Every smaller divisor of the micro-batch, largest first; accumulation rises to keep the product."""
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN:
        return ()
    return tuple(_option(workload, micro) for micro in _smaller_divisors(workload.batch.micro))


def _smaller_divisors(number: int) -> list[int]:
    small = [divisor for divisor in range(1, int(number**0.5) + 1) if number % divisor == 0]
    return sorted({*small, *(number // divisor for divisor in small)} - {number}, reverse=True)


def _option(workload: Workload, micro: int) -> Option:
    product = workload.batch.micro * workload.batch.accumulation
    accumulation = product // micro
    return Option(
        changes={"batch.micro": micro, "batch.accumulation": accumulation},
        harm=HARM,
        reason=f"the same {product} sequences per optimizer step, {micro} at a time",
    )
