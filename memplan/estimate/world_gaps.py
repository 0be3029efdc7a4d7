"""What is not simulated of training on several GPUs: named, with its bytes per GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Gap
from memplan.domain.workload import Task, Workload
from memplan.simulator import sharding

CHANNELS = 32
"""The most channels NCCL opens between GPUs (``MAXCHANNELS`` in its src/include/device.h)."""

CONNECTIONS = 5
"""Of one channel: the ring's, and those of a tree to its parent and to three children at most."""

CONNECTION = 4 * 2**20 + 120 * 640 * 8 * 8 + 8 * 512 * 8 * 16
"""Bytes of a connection: buffers for Simple, LL128 and LL (``computeBuffSizes`` in NCCL's src/init.cc)."""

IN_FLIGHT = 2
"""All-gathers whose memory may not be back yet when the next begins (``_FreeEventQueue`` of FSDP1)."""

RESIDENT = (
    "flat_parameters",
    "embeddings",
    "decoder_matrix",
    "blocks",
    "adapter",
    "gradients",
    "optimizer_state",
)


def world_gaps(workload: Workload, sizes: Mapping[str, int]) -> Iterator[Gap]:
    """The memory of the collectives' library, and shardings that are asked for but not simulated."""
    world = workload.world
    if workload.task is not Task.TRAIN or (world.data_parallel == 1 and world.sharding == "none"):
        return
    held = sum(sizes.get(name, 0) for name in RESIDENT)
    if world.data_parallel == 1:
        # Without the number of GPUs nothing bounds the share of one of them from below.
        reason = f"{world.sharding} sharding over how many GPUs is not said: counted as one, holding all"
        yield Gap(reason=reason, low=Bytes(held))
        return
    reason = "NCCL's buffers between GPUs are outside PyTorch's allocator"
    yield Gap(reason=reason, high=Bytes(CHANNELS * CONNECTIONS * CONNECTION))
    if sharding.simulated(workload):
        yield from _streams(workload)
        if world.hybrid:
            reason = "hybrid sharding is counted as over all GPUs: over those of a node each holds more"
            yield Gap(reason=reason, high=Bytes(held * (world.data_parallel - 1)))
    else:
        reason = f"{world.sharding} sharding is not simulated here: one GPU is counted as holding everything"
        yield Gap(reason=reason, low=Bytes(held - held // world.data_parallel))


def _streams(workload: Workload) -> Iterator[Gap]:
    """What FSDP1 gathers, and gradients, are used on two streams, and return when the GPU is done with both.

    The CPU is ahead of the GPU by as many blocks as are in flight (``limit_all_gathers``); the gradients of
    one more are being reduced.
    """
    shape, world = workload.model, workload.world
    if world.sharding != "fsdp1" or not isinstance(shape, Architecture):
        return
    elements = sum(prod(group.shape) * group.copies for group in shape.groups if group.component == "blocks")
    block = elements // shape.num_hidden_layers * (world.param_dtype or workload.precision.params).itemsize
    gradients = (IN_FLIGHT + 1) * block if workload.adapter is None else 0
    reason = "blocks that FSDP1 lets go of are counted as free before the GPU is done with them"
    yield Gap(reason=reason, high=Bytes(IN_FLIGHT * block + gradients))
