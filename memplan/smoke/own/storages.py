"""Tensors as code makes and drops them, whether they have bytes or not: storages, counted once each."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from memplan.domain.trace import Phase
from memplan.smoke.own.making import Making


class Storages(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of all storages that ops return, until their last reference goes.

    What an op takes and returns within itself cannot be seen from here. ``making`` is told of each.
    """

    def __init__(self, making: Making) -> None:
        super().__init__()
        self.making = making
        self.used = 0
        self.phases: dict[Phase, int] = {}
        self._phase = Phase.LOAD
        self._alive: dict[int, Any] = {}

    def enter(self, phase: Phase) -> None:
        """Everything from here on belongs to a phase; it begins with what is there."""
        self._phase = self.making.phase = phase
        self.phases[phase] = self.used

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf.untyped_storage(), func, args)
        return result

    def _note(self, storage: Any, func: Any, args: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        made = self.making.allocated(func, args, size)

        def drop(_: Any) -> None:
            self.making.freed(made)
            del self._alive[key]
            self.used -= size

        self._alive[key] = weakref.ref(storage, drop)
        self.used += size
        self.phases[self._phase] = max(self.used, self.phases.get(self._phase, 0))


class Saved:
    """What autograd saves for backward: storages, without those that are there anyway."""

    def __init__(self, known: Any) -> None:
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._found: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        """Of everything that was saved."""
        return sum(self._found.values())

    def pack(self, tensor: Any) -> Any:
        """Called with every tensor that is saved."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._found[storage._cdata] = storage.nbytes()
        # An op's own result would keep itself alive.
        return tensor.detach()

    def unpack(self, tensor: Any) -> Any:
        """Called with every tensor that backward asks for."""
        return tensor
