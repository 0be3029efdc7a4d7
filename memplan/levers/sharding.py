"""States spread over the GPUs there are: a share for each instead of a copy.

The next stages of ZeRO for a run under DeepSpeed, FSDP for one under ``DistributedDataParallel``, and under
FSDP letting go of blocks between forward and backward. All are data parallel: every GPU sees the same
sequences as before, and gradients are averaged over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload
from memplan.simulator import sharding

NAME = "sharding"
SUMMARY = "spread gradients, optimizer states and weights over the GPUs"
HARM = Harm.EXACT

_STAGES = ("zero1", "zero2", "zero3")
_SHARES = {
    "zero2": "each GPU keeps a share of the gradients",
    "zero3": "each GPU keeps a share of gradients and weights, and gathers layers when they run; whole "
    "weights are then saved only with stage3_gather_16bit_weights_on_model_save",
}
_FSDP = "each GPU keeps a share of weights, gradients and optimizer states, and gathers blocks when they run"
_RESHARD = "blocks are let go of after forward, and gathered again for backward"


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """What spreads more than now, within what the run is launched with; nothing on a single GPU.

    DeepSpeed is not proposed to runs that do without: it keeps fp32 copies of weights and runs everything in
    one dtype, which is another way to train. ZeRO-3 of quantized weights is not simulated, so not offered.
    """
    several = workload.world.data_parallel > 1
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN or not several:
        return ()
    return tuple(_offered(workload))


def _offered(workload: Workload) -> Iterator[Option]:
    world = workload.world
    if world.sharding in _STAGES:
        for stage in _STAGES[_STAGES.index(world.sharding) + 1 :]:
            if stage != "zero3" or workload.quantization is None:
                yield _option("world.sharding", stage, _SHARES[stage])
    elif world.sharding == "none" and _takes_fsdp(workload):
        yield _option("world.sharding", "fsdp2", _FSDP)
    elif _keeps_blocks(workload):
        yield _option("world.reshard_after_forward", True, _RESHARD)


def _keeps_blocks(workload: Workload) -> bool:
    """Whether FSDP has blocks whole from forward to backward."""
    world = workload.world
    kept = world.sharding in ("fsdp1", "fsdp2") and not world.reshard_after_forward
    return kept and sharding.simulated(workload)


def _takes_fsdp(workload: Workload) -> bool:
    """Whether a training loop can shard this model, and its optimizer takes tensors that are sharded.

    bitsandbytes' do not. Optimizers with copies of their own (``master``) belong to another engine.
    """
    plain = workload.precision.master is None and not workload.optimizer.name.endswith("bit")
    transformers = workload.framework.code == "transformers"
    return plain and transformers and sharding.simulated(workload.changed("world.sharding", "fsdp2"))


def _option(field: str, value: Any, reason: str) -> Option:
    return Option(changes={field: value}, harm=HARM, reason=reason)
