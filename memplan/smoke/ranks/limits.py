"""What is not run on several processes: refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Precision, Task, Workload, World
from memplan.domain.zero import Place
from memplan.simulator import sharding
from memplan.smoke import unbuilt
from memplan.smoke.cpu import limits
from memplan.smoke.libraries import installed

ZERO = ("zero1", "zero2", "zero3")

SHARDINGS = ("none", "fsdp2", *ZERO)


def refuse(workload: Workload) -> None:
    """Check that ranks can run a workload.

    Raises:
        InputError: they cannot, with every reason.
    """
    alone = replace(workload, world=World())
    if workload.world.sharding in ZERO:
        # DeepSpeed's own dtypes: of gradients that add up, and of what its optimizer works on.
        alone = replace(alone, precision=Precision(params=workload.precision.params))
    limits.refuse(alone)
    unbuilt.refuse(
        "this run cannot be made on several processes",
        _reasons(workload),
        "two ranks or more of DistributedDataParallel, fully_shard (FSDP2) or DeepSpeed's ZeRO",
    )


def _reasons(workload: Workload) -> Iterator[str]:
    yield from unbuilt.of_bitsandbytes(workload)
    world = workload.world
    if world.data_parallel < 2:
        yield "it has one rank only"
    if world.sharding not in SHARDINGS:
        yield f"it is sharded as {world.sharding}"
    elif not sharding.simulated(workload):
        assert isinstance(workload.model, Architecture)
        yield f"{world.sharding} of such a {workload.model.model_type} is not simulated"
    if world.sharding in ZERO:
        yield from _of_zero(workload)
    if world.hybrid:
        yield "it is sharded within nodes only"
    if workload.task is not Task.TRAIN:
        yield "it does not train"
    if workload.evaluation is not None:
        yield "it evaluates between steps"


def _of_zero(workload: Workload) -> Iterator[str]:
    precision, zero = workload.precision, workload.world.zero
    if installed("deepspeed") is None:
        yield "DeepSpeed is not installed, which divides it"
    if zero.optimizer is not Place.GPU or zero.parameters is not Place.GPU:
        yield "states or parameters are offloaded to the host"
    if precision.autocast is not None:
        yield "it computes under autocast, which DeepSpeed's engine does not use"
    if precision.optimizer_state not in (None, Dtype.FP32) or precision.master not in (None, Dtype.FP32):
        yield "its optimizer works in another dtype than fp32"
