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
from functools import lru_cache

from memplan.domain.workload import Workload
from memplan.domain.zero import Place
from memplan.levers.cost.rates import DRIVE, Rates
from memplan.levers.cost.update import own_dtype

EDGE = 1e-3
"""Share of its own time that work adds although it goes on beside something slower: just enough to make the
plan with less work the faster one even then."""

NONE, STATES, GRADIENTS, PARAMETERS = range(4)
_STAGES = {"zero1": STATES, "zero2": GRADIENTS, "zero3": PARAMETERS, "fsdp1": PARAMETERS, "fsdp2": PARAMETERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Seconds of one micro-batch: forward, backward with recomputation, and copies to and from the host.

    Kernels wait for copies where ``waited`` says so. ``accumulating`` is what adding gradients to those of
    the pass before takes.
    """

    forward: float
    backward: float
    copied: float
    waited: bool
    accumulating: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How far states are spread over ``gpus``, and whether DeepSpeed moves some to the host."""

    stage: int
    gpus: int
    offloaded: bool


@lru_cache(maxsize=256)
def spreads(sharding: str, gpus: int) -> tuple[Spread, ...]:
    """A sharding, after those that spread less; a single GPU shards nothing, but may offload."""
    zero = sharding.startswith("zero")
    if gpus == 1:
        return (Spread(stage=NONE, gpus=1, offloaded=zero),)
    stages = range(_STAGES.get(sharding, NONE) + 1)
    return tuple(Spread(stage=stage, gpus=gpus, offloaded=zero and stage > NONE) for stage in stages)


def passes_seconds(
    workload: Workload, stored: float, trained: int, passes: Passes, rates: Rates, spread: Spread
) -> float:
    """All passes of an optimizer step, and what GPUs exchange for them.

    ``stored`` is the parameters' size in bytes, ``trained`` the number of those with gradients.
    """
    world, stage, gpus = workload.world, spread.stage, spread.gpus
    ring = (gpus - 1) / gpus / rates.peer_link
    gradients = trained * _reduced(workload, stage)
    reduced = gradients * ring
    gathered = stored * ring if stage == PARAMETERS else 0.0
    again = gathered if world.reshard_after_forward else 0.0
    last = (2 * reduced if stage == NONE else reduced) + again
    delayed = world.sharding.startswith("fsdp") and world.no_sync
    often = not delayed if stage >= GRADIENTS else stage == NONE and not world.no_sync
    from_host = _parameters(workload, stored / gpus, rates) if spread.offloaded else 0.0
    to_host = gradients / gpus / rates.host_link if spread.offloaded and _steps_on_host(workload) else 0.0
    accumulation = workload.batch.accumulation
    forward = accumulation * _pass(passes.forward, gathered, from_host, passes, rates)
    fetched = from_host + to_host
    backward = (accumulation - 1) * (
        _pass(passes.backward, last if often else again, fetched, passes, rates) + passes.accumulating
    )
    backward += _pass(passes.backward, last, fetched, passes, rates)
    after = trained * workload.precision.params.itemsize * ring if stage in (STATES, GRADIENTS) else 0.0
    return forward + backward + after


def _pass(computed: float, exchanged: float, moved: float, passes: Passes, rates: Rates) -> float:
    """One pass and what goes on beside it; GPUs without a link of their own exchange over the host's."""
    waited, copied = (passes.copied, moved) if passes.waited else (0.0, moved + passes.copied)
    beside = max(exchanged, copied) if rates.own_link else exchanged + copied
    return max(computed, beside) + EDGE * computed + waited


def _steps_on_host(workload: Workload) -> bool:
    return workload.world.zero.optimizer is not Place.GPU


def _parameters(workload: Workload, share: float, rates: Rates) -> float:
    """Seconds in which a GPU's share of the parameters comes from where it lies."""
    place = workload.world.zero.parameters
    if workload.world.sharding != "zero3" or place is Place.GPU:
        return 0.0
    return share / (min(DRIVE, rates.host_link) if place is Place.NVME else rates.host_link)


def _reduced(workload: Workload, stage: int) -> int:
    """Bytes of a gradient on its way."""
    world = workload.world
    given = None
    if stage > NONE:
        given = world.zero.communication if world.sharding.startswith("zero") else world.reduce_dtype
    return (given or workload.precision.gradients or own_dtype(workload)).itemsize
