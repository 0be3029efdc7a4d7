"""Settings that make no sense together, which no plan may combine."""

from __future__ import annotations

from collections.abc import Callable

from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Workload


def _one_way_to_the_host(workload: Workload) -> bool:
    """Inputs of checkpointed blocks go to the host by one kind of hooks, not by two."""
    return not (workload.checkpointing.offload and _offloads(workload))


def _offloading_with_recomputation(workload: Workload) -> bool:
    """torchtune refuses to offload activations unless blocks are checkpointed (its recipes' ``__init__``)."""
    checkpointed = workload.checkpointing.every > 0
    return workload.framework.code != "torchtune" or checkpointed or not _offloads(workload)


def _offloads(workload: Workload) -> bool:
    return workload.activation_offload is not ActivationOffload.NONE


RULES: tuple[Callable[[Workload], bool], ...] = (_one_way_to_the_host, _offloading_with_recomputation)
"""Each says whether a workload is a sensible one as far as it looks at it."""


def compatible(workload: Workload) -> bool:
    """Whether every rule accepts a workload."""
    return all(rule(workload) for rule in RULES)
