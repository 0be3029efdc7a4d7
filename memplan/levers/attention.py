"""Attention that never stores its scores: the same sums, without a tensor of sequence² per head."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Attention, Workload

NAME = "attention"
SUMMARY = "let PyTorch pick a fused attention kernel instead of storing the scores"
HARM = Harm.EXACT


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """SDPA in place of eager attention, which every GPU that PyTorch supports can run.

    The families simulated have no attention dropout; with dropout the two would draw different masks.
    FlashAttention-2 is not offered: its package may not be installed, and SDPA has a flash kernel of its own.
    """
    if not isinstance(workload.model, Architecture) or workload.attention is not Attention.EAGER:
        return ()
    return (
        Option(
            changes={"attention": Attention.SDPA},
            harm=HARM,
            reason="the scores of all pairs of positions are no longer stored",
        ),
    )
