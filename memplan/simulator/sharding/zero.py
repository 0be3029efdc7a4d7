"""DeepSpeed's ZeRO: optimizer states, gradients and parameters divided among the GPUs, by stage."""

from __future__ import annotations

from memplan.domain.workload import Workload
from memplan.simulator.sharding.whole import Model, Whole
from memplan.simulator.tensor import Tape


def wrap(tape: Tape, workload: Workload, model: Model) -> Whole:
    """The model as ``deepspeed.initialize`` leaves it on one GPU, at the stage ``world.sharding`` names."""
    if workload.world.sharding == "zero3":
        from memplan.simulator.sharding.zero_sharded import Sharded

        return Sharded(tape, workload, model)
    from memplan.simulator.sharding.zero_flat import Flat

    return Flat(tape, workload, model)
