"""Shorter sequences: another experiment, since longer documents are cut."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload

NAME = "sequence"
SUMMARY = "halve the sequence length, once or more"
HARM = Harm.BEHAVIOUR

SHORTEST = 256
"""Below this few documents keep their meaning; whoever wants less can say so."""


PICTURES = ("vit",)
"""Types whose sequences are the patches of a picture, which nobody cuts."""

HALVING = 3
"""How far a halving goes, where LoRA instead of full training is 1, weights in 4 bits 1 more, and half the
rank 1 more: what is cut off is never seen, while adapters of any kind see all of it."""


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """The length halved again and again, down to 256 tokens."""
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN:
        return ()
    if workload.model.model_type in PICTURES:
        return ()
    lengths = []
    length = workload.sequence.length // 2
    while length >= SHORTEST:
        lengths.append(length)
        length //= 2
    return tuple(_option(length, halvings) for halvings, length in enumerate(lengths, 1))


def _option(length: int, halvings: int) -> Option:
    return Option(
        changes={"sequence.length": length},
        harm=HARM,
        reason=f"sequences longer than {length} tokens are cut",
        degree=HALVING * halvings,
    )
