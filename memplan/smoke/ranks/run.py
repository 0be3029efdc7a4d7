"""One rank of a run: the real model, its share of it, some steps, and what it holds meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

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
from memplan.smoke.ranks.spread import spread
from memplan.smoke.ranks.storage import storages
from memplan.smoke.ranks.zero import STAGES, Zero
from memplan.smoke.training import Training


class Loop(Protocol):
    """A model in training that other ranks train too."""

    def train(self, steps: int) -> None:
        """So many optimizer steps."""

    def parameters(self) -> int:
        """Bytes of parameters and buffers, between steps."""

    def standing(self) -> int:
        """Bytes of what else stays between steps."""


def run(workload: Workload, steps: int) -> Holdings:
    """Train within the process group that is there, and say what this rank held in the last step."""
    peak, held = Peak(), Held()
    with like_a_gpu(workload), prompt():
        model = build(workload)
        load(model)
        initialise(model)
        loop = _loop(held, workload, model)
        del model
        loop.train(steps - 1)
        # Only what the next step finds is held when it begins.
        gc.collect()
        weights = loop.parameters()
        with peak.watching(weights + loop.standing()):
            loop.train(1)
    return Holdings(
        parameters=Bytes(weights),
        gradients=held.bytes("gradients"),
        optimizer_state=held.bytes("optimizer_state"),
        peak_allocated=Bytes(peak.bytes),
    )


def _loop(held: Held, workload: Workload, model: Any) -> Loop:
    if workload.world.sharding in STAGES:
        return Zero(held, workload, model)
    return Shared(held, workload, model)


class Shared(Training):
    """The usual loop around ``DistributedDataParallel`` or a fully sharded model."""

    def __init__(self, meter: Meter, workload: Workload, model: Any) -> None:
        assert isinstance(workload.model, Architecture)
        self._spread = spread(model, workload)
        super().__init__(meter, workload, Labels(model, workload.model.groups))
        self.whole = model
        self.model = self._spread.module

    def parameters(self) -> int:
        """Bytes of parameters and buffers."""
        return storages([*self.whole.parameters(), *self.whole.buffers()])

    def standing(self) -> int:
        """Bytes of the states, of buckets, and of gradients that the optimizer does not let go of."""
        states = (tensor for tensor, *_ in self.states())
        gradients = (entry.grad for entry in self.trained if entry.grad is not None)
        return storages([*states, *gradients]) + self._spread.kept()

    def _reducing(self, *, last: bool) -> AbstractContextManager[object]:
        return self._spread.reducing(last)


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


def memory_was_short(error: BaseException) -> bool:
    """Whether an error says that there was no memory."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        word in str(error) for word in words
    )
