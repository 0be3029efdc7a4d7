"""Listens to a run on a GPU: restarts the counters with every phase, and marks the allocator's history."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Tag
from memplan.smoke.cpu.resident import now
from memplan.smoke.cuda import dtype_of
from memplan.smoke.gpu.driver import Driver
from memplan.smoke.gpu.history import Mark
from memplan.smoke.meter import Named


class Scopes:
    """The modules that run, innermost last; ``failed`` is the innermost when an exception came through."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self.failed: str | None = None

    def append(self, name: str) -> None:
        """A module begins."""
        self._names.append(name)

    def pop(self) -> None:
        """It is over, or left by an exception: hooks are called while that is handled."""
        name = self._names.pop()
        if self.failed is None and sys.exc_info()[0] is not None:
            self.failed = name


class PhaseMeter:
    """What PyTorch's counters say of each phase, and where in history the phases begin.

    ``peaks`` holds the most allocated of each phase, ``reserved`` the most reserved, ``held`` the most that
    the driver saw the process hold, ``context`` the most of that beside reserved memory, ``resident`` the
    most of its host memory when a phase ended; ``steps`` counts optimizer steps, or calls of ``generate``.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.scope = Scopes()
        self.phase = Phase.LOAD
        self.peaks: dict[Phase, Bytes] = {}
        self.reserved = Bytes(0)
        self.held: Bytes | None = None
        self.context: Bytes | None = None
        self.resident = Bytes(0)
        self.steps = 0
        self.marks: list[Mark] = [Mark(position=0, phase=Phase.LOAD)]
        self._in_head = False
        self._watched = False
        self._before = driver.count()

    def begin_step(self) -> None:
        """An optimizer step, or a call of ``generate``, begins."""
        self.steps += 1

    def enter(self, phase: Phase) -> None:
        """A phase begins: the one before it is over."""
        self.settle()
        self.phase = phase
        self._in_head = self._in_head and phase is Phase.LOSS
        self._mark(phase=phase, logits=self._watched if phase is Phase.BACKWARD else phase is Phase.LOSS)

    def leave(self, phase: Phase) -> None:
        """What comes after counts to the phase until the next begins."""

    def enter_head(self) -> None:
        """From here on there are logits and loss, until their gradient is there."""
        if self.phase in (Phase.FORWARD, Phase.LOSS) and not self._in_head:
            self._in_head = True
            self._mark(logits=True)

    def enter_loss(self) -> None:
        """The loss begins."""
        self.enter_head()
        if self.phase is Phase.FORWARD:
            self.enter(Phase.LOSS)

    def name(self, tensors: Iterable[Named]) -> None:
        """Note where tensors lie."""
        self.marks.append(Mark(position=self._position(), noted=tuple(self._noted(tensors))))

    def settle(self) -> None:
        """Keep what the counters say of the phase that ends, and restart them."""
        usage = self.driver.usage()
        self.peaks[self.phase] = max(self.peaks.get(self.phase, Bytes(0)), usage.most_allocated)
        self.reserved = max(self.reserved, usage.most_reserved)
        self.resident = max(self.resident, now())
        held = self.driver.held()
        if held is not None:
            self.held = max(self.held or held, held)
            if held > usage.reserved:
                beside = Bytes(held - usage.reserved)
                self.context = max(self.context or beside, beside)
        self.driver.restart()

    @contextmanager
    def watching(self, head: Any) -> Iterator[None]:
        """Until the block ends, backward says when it is through with the head: its input has a gradient."""

        def before(_: Any, args: tuple[Any, ...]) -> None:
            if args and getattr(args[0], "requires_grad", False):
                args[0].register_hook(lambda _: self._leave_head())

        if head is None:
            yield
            return
        handle = head.register_forward_pre_hook(before)
        self._watched = True
        try:
            yield
        finally:
            self._watched = False
            handle.remove()

    def _leave_head(self) -> None:
        if self.phase is Phase.BACKWARD:
            self._mark(logits=False)

    def _mark(self, *, phase: Phase | None = None, logits: bool | None = None) -> None:
        self.marks.append(Mark(position=self._position(), phase=phase, logits=logits))

    def _position(self) -> int:
        return self.driver.count() - self._before

    def _noted(self, tensors: Iterable[Named]) -> Iterator[tuple[int, Tag]]:
        """Where each storage lies and what it is; the first name of one that has several."""
        seen: set[int] = set()
        for tensor, component, name, use in tensors:
            address = self.driver.address(tensor)
            if address not in seen:
                seen.add(address)
                size = tensor.untyped_storage().nbytes()
                whole = prod(tensor.shape) * tensor.element_size() == size
                kind = (tuple(tensor.shape), dtype_of(tensor)) if whole else ((size,), Dtype.UINT8)
                yield address, (component, name, use, *kind)
