"""DeepSpeed's ZeRO: optimizer states, gradients and parameters divided among the GPUs, by stage."""

from __future__ import annotations

from memplan.domain.workload import Workload
from memplan.simulator.sharding.whole import Model, Whole
from memplan.simulator.tensor import Tape


def wrap(tape: Tape, workload: Workload, model: Model) -> Whole:
    """The model as ``deepspeed.initialize`` leaves it on one GPU, at the stage ``world.sharding`` names."""
    from memplan.simulator.sharding.zero_flat import Flat

    return Flat(tape, workload, model)
