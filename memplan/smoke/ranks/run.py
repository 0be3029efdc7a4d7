"""One rank of a run: the real model, its share of it, some steps, and what it holds meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.ranks import Holdings
from memplan.domain.workload import Workload
from memplan.smoke.cpu.conditions import like_a_gpu
from memplan.smoke.labels import Labels
from memplan.smoke.meter import Deaf, Meter, Named
from memplan.smoke.model import build, initialise, load
from memplan.smoke.ranks.exchange import prompt
from memplan.smoke.ranks.peak import Peak
from memplan.smoke.ranks.spread import Spread, spread
from memplan.smoke.training import Training


def run(workload: Workload, steps: int) -> Holdings:
    """Train within the process group that is there, and say what this rank held in the last step."""
    peak, held = Peak(), Held()
    with like_a_gpu(workload), prompt():
        model = build(workload)
        load(model)
        initialise(model)
        shared = spread(model, workload)
        assert isinstance(workload.model, Architecture)
        training = Shared(held, workload, Labels(model, workload.model.groups), shared)
        training.train(steps - 1)
        # Only what the next step finds is held when it begins.
        gc.collect()
        weights = storages([*model.parameters(), *model.buffers()])
        with peak.watching(weights + training.standing() + shared.kept()):
            training.train(1)
    return Holdings(
        parameters=Bytes(weights),
        gradients=held.bytes("gradients"),
        optimizer_state=held.bytes("optimizer_state"),
        peak_allocated=Bytes(peak.bytes),
    )


class Shared(Training):
    """Training of a model that other ranks train too."""

    def __init__(self, meter: Meter, workload: Workload, labels: Labels, shared: Spread) -> None:
        super().__init__(meter, workload, labels)
        self.model = shared.module
        self._around = shared.reducing

    def standing(self) -> int:
        """Bytes of the states, and of gradients that the optimizer does not let go of."""
        states = (tensor for tensor, *_ in self.states())
        return storages([*states, *(entry.grad for entry in self.trained if entry.grad is not None)])

    def _reducing(self, *, last: bool) -> AbstractContextManager[object]:
        return self._around(last)


class Held(Deaf):
    """A meter that keeps how many bytes were named last for each component."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def name(self, tensors: Iterable[Named]) -> None:
        """All gradients, or all states, as they are now."""
        found: dict[str, list[Any]] = {}
        for tensor, component, _, _ in tensors:
            found.setdefault(component, []).append(tensor)
        self._last |= {
            component: storages(tensor for tensor in each if tensor.dim())
            for component, each in found.items()
        }

    def bytes(self, component: str) -> Bytes:
        """Of the last step."""
        return Bytes(self._last.get(component, 0))


def storages(tensors: Iterable[Any]) -> int:
    """Bytes behind tensors, or behind this rank's parts of them; what several share is counted once."""
    found: dict[int, int] = {}
    for tensor in tensors:
        own = getattr(tensor, "_local_tensor", tensor)
        storage = own.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def memory_was_short(error: BaseException) -> bool:
    """Whether an error says that there was no memory."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        word in str(error) for word in words
    )
