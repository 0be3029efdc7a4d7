"""Logits of a prompt's last token only: generation looks at no others."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload

NAME = "prompt_logits"
SUMMARY = "compute logits for the last token of a prompt (logits_to_keep=1)"
HARM = Harm.EXACT


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """The next token is chosen by the last position's logits; those of others are thrown away."""
    if not isinstance(workload.model, Architecture) or workload.task is not Task.GENERATE:
        return ()
    if workload.generate.logits != "all" or workload.generate.prompt < 2:
        return ()
    return (
        Option(
            changes={"generate.logits": "last"},
            harm=HARM,
            reason="a prompt's logits are made for its last token only",
        ),
    )
