"""Optimizer states in host memory, and with them the optimizer's step: DeepSpeed's ZeRO-Offload."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload
from memplan.domain.zero import Place

NAME = "host_offload"
SUMMARY = "keep optimizer states in host memory and step on the CPU"
HARM = Harm.EXACT

OPTIMIZERS = ("adam", "adamw")
"""Those that accelerate turns into ``DeepSpeedCPUAdam`` with the same arithmetic in fp32
(``map_pytorch_optim_to_deepspeed`` in accelerate src/accelerate/utils/deepspeed.py, 1.15)."""


def options(workload: Workload, target: Target | None) -> tuple[Option, ...]:
    """The states of Adam, for a run under DeepSpeed that has them on the GPU.

    Parameters are not offered: their offloading is not simulated.
    """
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN:
        return ()
    world = workload.world
    if not world.sharding.startswith("zero") or world.zero.optimizer is not Place.GPU:
        return ()
    if workload.optimizer.name not in OPTIMIZERS:
        return ()
    reason = "fp32 copies of the weights and the states of Adam wait in host memory; the CPU makes the step"
    needs = target.unknown_ram if target is not None else ()
    return (Option(changes={"world.zero.optimizer": Place.CPU}, harm=HARM, reason=reason, requires=needs),)
