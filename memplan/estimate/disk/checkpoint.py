"""What a checkpoint of the Hugging Face Trainer holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from memplan.domain.architecture import Architecture, ParameterGroup
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload
from memplan.domain.zero import Place
from memplan.estimate.disk.archive import optimizer_bytes
from memplan.estimate.disk.safetensors import Entry, file_bytes
from memplan.estimate.kept import Kept, trained
from memplan.estimate.paging import paged
from memplan.estimate.zero_offload import SAVED_BYTES, states_in
from memplan.simulator.sharding import simulated

REST = 32 * 1024
"""scheduler.pt, rng_state.pth, trainer_state.json, training_args.bin and configs: 23 to 28 KiB after two
steps (transformers 5.23). Assumed: trainer_state.json grows with every logged step. No tokenizer counts."""

_STEP = 4
_COUNTED = ("adam", "adamw")
"""Optimizers of PyTorch that keep a step counter for each parameter; only fused ones keep it on the GPU."""


def checkpoint_bytes(workload: Workload, found: Kept) -> int:
    """Size in bytes of one checkpoint: weights or adapters, the optimizer's state if saved, the rest."""
    total = file_bytes(weights(workload, found)) + REST
    if workload.saving.optimizer:
        total += optimizer_bytes(states(workload, found)) * _shards(workload)
    return total


def _shards(workload: Workload) -> int:
    """Processes that each save their own part of the optimizer's state."""
    sharded = workload.world.sharding != "none" and simulated(workload)
    return workload.world.data_parallel if sharded else 1


def weights(workload: Workload, found: Kept) -> list[Entry]:
    """Tensors of the file: the adapters if there are any, else all weights."""
    if workload.adapter is not None:
        return list(_adapters(found))
    shape = workload.model
    assert isinstance(shape, Architecture)
    return list(published(shape, workload.precision.params))


def _adapters(found: Kept) -> Iterator[Entry]:
    """Adapters by the names PEFT saves them under; those of one kind come in the order of their layers."""
    layers: Counter[str] = Counter()
    for _, scope, _, shape, dtype in found.adapters:
        name = scope.replace("*", str(layers[scope]), 1)
        layers[scope] += 1
        yield Entry(name=f"base_model.model.model.{name}", dtype=dtype, shape=shape)


def published(shape: Architecture, dtype: Dtype) -> Iterator[Entry]:
    """All weights of a model by the names they have in its files, in one dtype."""
    for group in shape.groups:
        for index in range(group.copies):
            yield Entry(name=_name(group, index), dtype=dtype, shape=group.shape)


def _name(group: ParameterGroup, index: int) -> str:
    name = group.name.replace("*", str(index), 1)
    return name if name.startswith("lm_head") else f"model.{name}"


def states(workload: Workload, found: Kept) -> list[int]:
    """Bytes of each tensor in the optimizer's state dict, the paged ones and step counters included."""
    optimizer, shapes = workload.optimizer, trained(workload, found)
    sizes = [*found.states, *paged(optimizer, shapes)]
    if optimizer.name in _COUNTED and optimizer.implementation != "fused":
        sizes += [_STEP] * len(shapes)
    away = sum(states_in(place, workload, found) for place in (Place.CPU, Place.NVME))
    if away:
        sizes.append(away * SAVED_BYTES)
    return sizes
