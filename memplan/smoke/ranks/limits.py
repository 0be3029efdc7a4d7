"""What is not run on several processes: refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.errors import InputError
from memplan.domain.workload import Task, Workload, World
from memplan.simulator import sharding
from memplan.smoke.cpu import limits

SHARDINGS = ("none", "fsdp2")


def refuse(workload: Workload) -> None:
    """Check that ranks can run a workload.

    Raises:
        InputError: they cannot, with every reason.
    """
    limits.refuse(replace(workload, world=World()))
    reasons = tuple(_reasons(workload))
    if reasons:
        raise InputError(
            f"this run cannot be made on several processes: {'; '.join(reasons)}",
            expected="two ranks or more of DistributedDataParallel or fully_shard (FSDP2)",
        )


def _reasons(workload: Workload) -> Iterator[str]:
    world = workload.world
    if world.data_parallel < 2:
        yield "it has one rank only"
    if world.sharding not in SHARDINGS:
        yield f"it is sharded as {world.sharding}"
    elif not sharding.simulated(workload):
        assert isinstance(workload.model, Architecture)
        yield f"{world.sharding} of such a {workload.model.model_type} is not simulated"
    if world.hybrid:
        yield "it is sharded within nodes only"
    if workload.task is not Task.TRAIN:
        yield "it does not train"
