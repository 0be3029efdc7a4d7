"""What a step keeps in host memory for the GPU, of one process."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload
from memplan.domain.zero import Place
from memplan.estimate.host.pinned import block, pinned
from memplan.estimate.host.share import Share, assumed, between, modelled
from memplan.estimate.kept import Kept, trained
from memplan.estimate.paging import paged


def offloaded(workload: Workload, found: Kept) -> Iterator[Share]:
    """Activations in pinned memory, paged optimizer states, and what DeepSpeed offloads.

    Paged states lie in unified memory (``cudaMallocManaged``, bitsandbytes csrc/pythonInterface.cpp): their
    pages are on the GPU as long as it has room, and in host memory otherwise.
    """
    shapes = trained(workload, found)
    yield from _zero(workload, sum(map(prod, shapes)))
    if found.offloaded:
        yield modelled("offloaded_activations", pinned(found.offloaded))
    states = sum(paged(workload.optimizer, shapes))
    if states:
        yield assumed("paged_optimizer_states", states, 0, states)


def _zero(workload: Workload, elements: int) -> Iterator[Share]:
    """DeepSpeed's ``offload_optimizer`` and ``offload_param`` to the CPU, one GPU's part.

    Parameters, gradients and two moments in fp32 are 16 bytes an element, as DeepSpeed's own estimators count
    (``estimate_zero2_model_states_mem_needs`` in deepspeed/runtime/zero/stage_1_and_2.py). Flat buffers of
    parameters and gradients may be pinned, in blocks of a power of two.
    """
    world = workload.world
    if not world.sharding.startswith("zero"):
        return
    part = -(-elements // world.data_parallel)
    if world.zero.optimizer is Place.CPU:
        flat = part * Dtype.FP32.itemsize
        most = 2 * flat + 2 * (block(flat) if world.zero.pinned else flat)
        yield between("offloaded_optimizer", 4 * flat, most)
    if world.zero.parameters is Place.CPU and world.sharding == "zero3":
        assert isinstance(workload.model, Architecture)
        shard = -(-workload.model.parameters // world.data_parallel) * workload.precision.params.itemsize
        yield between("offloaded_parameters", shard, block(shard) if world.zero.pinned else shard)
