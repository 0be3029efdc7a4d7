"""What a rule of thumb says of a limit, to stand beside what was computed."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.architecture import DeclaredModel
from memplan.domain.target import Target
from memplan.domain.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A named rule and the largest value it allows; None where it says nothing."""

    rule: str
    value: int | None


def said(workload: Workload, field: str, target: Target) -> Said | None:
    """What is known of a value by the target's RAM alone: the tokens of a context have a table."""
    model = workload.model
    if not isinstance(model, DeclaredModel) or target.ram is None:
        return None
    if (model.mechanism, field) != ("large_context", "context"):
        return None
    from memplan.mechanisms.context.ram import NAME, tokens_for

    return Said(rule=NAME, value=tokens_for(target.ram))
