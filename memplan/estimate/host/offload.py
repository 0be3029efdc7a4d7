"""What a step keeps in host memory for the GPU, of one process."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload
from memplan.domain.zero import Place
from memplan.estimate.host.pinned import block, pinned
from memplan.estimate.host.share import Share, assumed, between, modelled
from memplan.estimate.kept import Kept, trained
from memplan.estimate.paging import paged
from memplan.estimate.zero_offload import STATE_BYTES, parameters_in, states_in


def offloaded(workload: Workload, found: Kept) -> Iterator[Share]:
    """Activations in pinned memory, paged optimizer states, and what DeepSpeed offloads.

    Paged states lie in unified memory (``cudaMallocManaged``, bitsandbytes csrc/pythonInterface.cpp): their
    pages are on the GPU as long as it has room, and in host memory otherwise.
    """
    yield from _zero(workload, found)
    if found.offloaded:
        yield modelled("offloaded_activations", pinned(found.offloaded))
    states = sum(paged(workload.optimizer, trained(workload, found)))
    if states:
        yield assumed("paged_optimizer_states", states, 0, states)


def _zero(workload: Workload, found: Kept) -> Iterator[Share]:
    """DeepSpeed's ``offload_optimizer`` and ``offload_param`` to the CPU, one GPU's part.

    Flat buffers of fp32 parameters and gradients may be pinned, in blocks of a power of two.
    """
    rounded = block if workload.world.zero.pinned else int
    elements = states_in(Place.CPU, workload, found)
    if elements:
        flat = elements * Dtype.FP32.itemsize
        yield between("offloaded_optimizer", elements * STATE_BYTES, 2 * flat + 2 * rounded(flat))
    shard = parameters_in(Place.CPU, workload) * workload.precision.params.itemsize
    if shard:
        yield between("offloaded_parameters", shard, rounded(shard))
