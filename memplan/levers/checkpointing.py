"""Activation checkpointing: keep a block's input, compute the rest again when backward needs it."""

from __future__ import annotations

from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload

NAME = "checkpointing"
SUMMARY = "recompute activations in backward instead of keeping them"
HARM = Harm.EXACT


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """Every second block, then every block; only settings that keep fewer activations than now."""
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN:
        return ()
    now = workload.checkpointing.every
    return tuple(_option(workload, every) for every in (2, 1) if now == 0 or every < now)


def _option(workload: Workload, every: int) -> Option:
    setting = replace(workload.checkpointing, every=every, reentrant=False)
    which = "every block" if every == 1 else f"every {every}nd block"
    return Option(
        changes={"checkpointing": setting},
        harm=HARM,
        reason=f"{which} keeps only its input and runs its forward pass again",
    )
