"""Settings that make no sense together, which no plan may combine."""

from __future__ import annotations

from collections.abc import Callable

from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Workload
from memplan.domain.zero import Place

_PAGED = "paged_"
"""How the names of bitsandbytes' paged optimizers begin."""


def _one_way_to_the_host(workload: Workload) -> bool:
    """Inputs of checkpointed blocks go to the host by one kind of hooks, not by two."""
    return not (workload.checkpointing.offload and _offloads(workload))


def _offloading_with_recomputation(workload: Workload) -> bool:
    """torchtune refuses to offload activations unless blocks are checkpointed (its recipes' ``__init__``)."""
    checkpointed = workload.checkpointing.every > 0
    return workload.framework.code != "torchtune" or checkpointed or not _offloads(workload)


def _offloads(workload: Workload) -> bool:
    return workload.activation_offload is not ActivationOffload.NONE


def _whole_tensors_for_bitsandbytes(workload: Workload) -> bool:
    """bitsandbytes' kernels take no DTensor, which FSDP2 makes of every parameter."""
    return workload.world.sharding != "fsdp2" or not workload.optimizer.name.startswith(_PAGED)


def _one_way_for_states_to_the_host(workload: Workload) -> bool:
    """States that DeepSpeed offloads are its own optimizer's (``zero_force_ds_cpu_optimizer``)."""
    paged = workload.optimizer.name.startswith(_PAGED)
    return not (paged and workload.world.zero.optimizer is not Place.GPU)


def _whole_weights_in_4_bits(workload: Workload) -> bool:
    """Weights that a plan stores in 4 bits stay whole on each GPU: not every framework can split them."""
    habits = workload.adapting
    stored = workload.quantization if habits is not None else None
    new = habits is not None and stored is not None and stored == habits.quantization
    return not new or workload.world.sharding in ("none", "zero1", "zero2")


RULES: tuple[Callable[[Workload], bool], ...] = (
    _one_way_to_the_host,
    _offloading_with_recomputation,
    _whole_tensors_for_bitsandbytes,
    _one_way_for_states_to_the_host,
    _whole_weights_in_4_bits,
)
"""Each says whether a workload is a sensible one as far as it looks at it."""


def compatible(workload: Workload) -> bool:
    """Whether every rule accepts a workload."""
    return all(rule(workload) for rule in RULES)
