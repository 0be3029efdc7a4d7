"""Elements of DeepSpeed's offloaded states and parameters, one GPU's part."""

from __future__ import annotations

from math import prod

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Workload
from memplan.domain.zero import Place
from memplan.estimate.kept import Kept, trained

STATE_BYTES = 16
"""Parameters, gradients and two moments in fp32, as DeepSpeed's own estimators count
(``estimate_zero2_model_states_mem_needs`` in deepspeed/runtime/zero/stage_1_and_2.py)."""

SAVED_BYTES = 12
"""The same without gradients."""


def states_in(place: Place, workload: Workload, found: Kept) -> int:
    """Trained elements whose optimizer states lie in a place."""
    world = workload.world
    if not world.sharding.startswith("zero") or world.zero.optimizer is not place:
        return 0
    return -(-sum(map(prod, trained(workload, found))) // world.data_parallel)


def parameters_in(place: Place, workload: Workload) -> int:
    """Elements of the model that lie in a place; stage 3 alone offloads them."""
    world = workload.world
    if world.sharding != "zero3" or world.zero.parameters is not place:
        return 0
    assert isinstance(workload.model, Architecture)
    return -(-workload.model.parameters // world.data_parallel)
