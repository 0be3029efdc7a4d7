"""LoRA instead of full training: another experiment, with gradients and states for adapters only."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Adapter, Task, Workload

NAME = "adapter"
SUMMARY = "train low-rank adapters on every linear projection instead of all weights"
HARM = Harm.BEHAVIOUR

RANK = 16
"""The rank of the LoRA paper's larger runs and the usual choice in published recipes."""


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """LoRA of rank 16 on all linear projections of the blocks, for a run that trains everything."""
    if (
        not isinstance(workload.model, Architecture)
        or workload.task is not Task.TRAIN
        or workload.adapter is not None
    ):
        return ()
    setting = Adapter(kind="lora", rank=RANK, targets=workload.model.linears)
    return (
        Option(
            changes={"adapter": setting},
            harm=HARM,
            reason="gradients and optimizer state only for the adapters; the model learns less freely",
            degree=1,
        ),
    )
