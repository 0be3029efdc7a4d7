"""Disk space of a run: the model's files, and checkpoints."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Basis, Component
from memplan.domain.workload import Task, Workload
from memplan.domain.zero import Place
from memplan.estimate import mechanism
from memplan.estimate.disk.checkpoint import checkpoint_bytes, published
from memplan.estimate.disk.safetensors import file_bytes
from memplan.estimate.kept import PER_MACHINE, Kept
from memplan.estimate.zero_offload import STATE_BYTES, parameters_in, states_in


def disk(workload: Workload, found: Kept) -> tuple[Component, ...]:
    """What lies on disk when it holds most; of declared models only a mechanism says something.

    An old checkpoint is deleted after a new one was written, so there is one more than are kept
    (``_save_checkpoint`` and ``rotate_checkpoints`` in transformers src/transformers/trainer.py).
    """
    shape = workload.model
    if not isinstance(shape, Architecture):
        return mechanism.disk(shape)
    files = file_bytes(published(shape, workload.host.published or workload.precision.params))
    parts = [Component(name="model_files", bytes=Bytes(files), basis=Basis.MODELLED)]
    parts += _swapped(workload, found)
    if workload.task is Task.TRAIN and workload.saving.kept:
        one = checkpoint_bytes(workload, found)
        kept = Bytes(one * workload.saving.kept)
        parts.append(Component(name="checkpoints", bytes=kept, basis=Basis.MODELLED))
        parts.append(Component(name="checkpoint_being_written", bytes=Bytes(one), basis=Basis.MODELLED))
    return tuple(parts)


def _swapped(workload: Workload, found: Kept) -> list[Component]:
    """What DeepSpeed offloads to a drive of the machine."""
    processes = min(workload.world.data_parallel, PER_MACHINE)
    sizes = {
        "offloaded_optimizer": states_in(Place.NVME, workload, found) * STATE_BYTES,
        "offloaded_parameters": parameters_in(Place.NVME, workload) * workload.precision.params.itemsize,
    }
    return [
        Component(name=name, bytes=Bytes(size * processes), basis=Basis.MODELLED)
        for name, size in sizes.items()
        if size
    ]
