"""Data parallelism: bytes between GPUs, and what is left of them after overlapping.

With N GPUs rings move (N-1)/N of a tensor to gather or to scatter it, and twice that to reduce it everywhere
(Patarasuk and Yuan, J. Parallel Distrib. Comput. 69(2), 2009). ``DistributedDataParallel`` reduces gradients
everywhere, in the last backward pass of a step where the loop asks for it (``no_sync``). ZeRO's first stage
scatters them then and gathers parameters after the step, its second scatters them in every pass, its third
and FSDP gather parameters for forward and again for backward (Rajbhandari et al., arXiv:1910.02054, §7).

What a pass sends overlaps with its arithmetic and takes longer only where there is more of it. Without a
link of their own GPUs talk over PCIe, which they share with what is offloaded to the host.
"""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.workload import Workload
from memplan.domain.zero import Place
from memplan.levers.cost.rates import DRIVE, Rates
from memplan.levers.cost.update import own_dtype

NONE, STATES, GRADIENTS, PARAMETERS = range(4)
_STAGES = {"zero1": STATES, "zero2": GRADIENTS, "zero3": PARAMETERS, "fsdp1": PARAMETERS, "fsdp2": PARAMETERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Seconds of one micro-batch: forward, backward with recomputation, and copies to and from the host.

    ``accumulating`` is what adding gradients to those of the pass before takes.
    """

    forward: float
    backward: float
    sent: float
    fetched: float
    accumulating: float


def stage_of(workload: Workload) -> int:
    """How much is sharded: nothing, optimizer states, gradients too, or parameters too."""
    return _STAGES.get(workload.world.sharding, NONE) if workload.world.data_parallel > 1 else NONE


def passes_seconds(
    workload: Workload, stored: float, trained: int, passes: Passes, rates: Rates, stage: int
) -> float:
    """All passes of an optimizer step at a stage of sharding, and what GPUs exchange for them.

    ``stored`` is the parameters' size in bytes, ``trained`` the number of those with gradients.
    """
    world = workload.world
    gpus = world.data_parallel
    ring = (gpus - 1) / gpus / rates.peer_link
    reduced = trained * _reduced(workload) * ring
    gathered = stored * ring if stage == PARAMETERS else 0.0
    again = gathered if world.reshard_after_forward else 0.0
    last = (2 * reduced if stage == NONE else reduced) + again
    often = stage >= GRADIENTS and not (world.sharding.startswith("fsdp") and world.no_sync)
    every = last if often or (stage == NONE and not world.no_sync) else again
    to_host, from_host = _moved(workload, stored / gpus, trained / gpus, rates, stage)
    sent, fetched = passes.sent + from_host, passes.fetched + from_host + to_host
    accumulation = workload.batch.accumulation
    forward = accumulation * _overlapped(passes.forward, gathered, sent, rates)
    backward = (accumulation - 1) * (
        _overlapped(passes.backward, every, fetched, rates) + passes.accumulating
    )
    backward += _overlapped(passes.backward, last, fetched, rates)
    after = trained * workload.precision.params.itemsize * ring if stage in (STATES, GRADIENTS) else 0.0
    return forward + backward + after


def _moved(
    workload: Workload, stored: float, trained: float, rates: Rates, stage: int
) -> tuple[float, float]:
    """Seconds of a pass's copies: gradients to an optimizer on the host, and parameters from there."""
    zero = workload.world.zero
    to_host = trained * _reduced(workload) / rates.host_link if zero.optimizer is not Place.GPU else 0.0
    if stage < PARAMETERS or zero.parameters is Place.GPU:
        return to_host, 0.0
    return to_host, stored / (
        min(DRIVE, rates.host_link) if zero.parameters is Place.NVME else rates.host_link
    )


def _overlapped(computed: float, exchanged: float, copied: float, rates: Rates) -> float:
    if rates.own_link:
        return max(computed, exchanged, copied)
    return max(computed, exchanged + copied)


def _reduced(workload: Workload) -> int:
    """Bytes of a gradient on its way."""
    world = workload.world
    given = world.zero.communication if world.sharding.startswith("zero") else world.reduce_dtype
    return (given or workload.precision.gradients or own_dtype(workload)).itemsize
