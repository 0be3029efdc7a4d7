"""What a run holds at once whatever it does in between: a floor that needs no simulation."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Task, Workload
from memplan.domain.zero import Place

_WEIGHTS = ("zero3", "fsdp1", "fsdp2")
_GRADIENTS = ("zero2", *_WEIGHTS)
_STATES = ("zero1", *_GRADIENTS)
"""What each kind of sharding spreads over the GPUs."""

_ADAM = ("adamw", "adam")


def standing(workload: Workload) -> int:
    """Bytes of weights, and of gradients and states that are whole when full training's backward ends.

    Of adapters and of optimizers other than Adam only the weights are counted, of 4-bit weights half a byte.
    """
    shape = workload.model
    if not isinstance(shape, Architecture):
        return 0
    held = _weights(workload, shape) // _share(workload, _WEIGHTS)
    if workload.world.zero.parameters is not Place.GPU:
        held = 0
    if workload.task is not Task.TRAIN or workload.adapter is not None or workload.quantization is not None:
        return held
    return held + _gradients_and_states(workload, shape)


def _share(workload: Workload, spread: tuple[str, ...]) -> int:
    return workload.world.data_parallel if workload.world.sharding in spread else 1


def _weights(workload: Workload, shape: Architecture) -> int:
    if workload.quantization is not None:
        return shape.parameters // 2
    return shape.parameters * workload.precision.params.itemsize


def _gradients_and_states(workload: Workload, shape: Architecture) -> int:
    precision = workload.precision
    if workload.world.zero.optimizer is not Place.GPU:
        return 0
    gradient = (precision.gradients or precision.params).itemsize
    gradients = shape.parameters * gradient // _share(workload, _GRADIENTS)
    if workload.optimizer.name not in _ADAM:
        return gradients
    state = (precision.optimizer_state or precision.params).itemsize
    return gradients + 2 * shape.parameters * state // _share(workload, _STATES)
