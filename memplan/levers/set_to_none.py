"""Gradients that are let go between steps, and not kept as zeros."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload

NAME = "set_to_none"
SUMMARY = "free gradients after each step (zero_grad(set_to_none=True))"
HARM = Harm.EXACT


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """For a loop that sets its gradients to zero: a parameter without one counts as if it were zero.

    PyTorch's optimizers skip what has no gradient, so a parameter that takes no part in a step keeps its
    moments; in the models simulated all parameters take part.
    """
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN:
        return ()
    if workload.optimizer.set_to_none:
        return ()
    return (
        Option(
            changes={"optimizer.set_to_none": True},
            harm=HARM,
            reason="no gradients are there during the next forward pass",
        ),
    )
