"""ZeRO-3's gathering: which parameters a GPU has whole, and when.

Source: ``PartitionedParameterCoordinator`` in deepspeed/runtime/zero/partitioned_param_coordinator.py;
``all_gather_coalesced`` and ``AllGatherCoalescedHandle.wait`` in partition_parameters.py next to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from memplan.domain.dtype import Dtype
from memplan.domain.zero import Zero
from memplan.simulator.tensor import Resizable, Storage, Tape

NEVER = -1
"""The step before the first."""


class Part:
    """A parameter of ``size`` elements, of which this GPU keeps a piece; ``persistent`` ones stay whole.

    ``here`` says that it is whole, ``handle`` is the gather it came with and that nobody asked for yet.
    """

    __slots__ = ("active", "coming", "handle", "here", "persistent", "place", "size", "storage")

    def __init__(self, place: int, size: int, storage: Resizable, *, persistent: bool) -> None:
        self.place = place
        self.size = size
        self.storage = storage
        self.persistent = persistent
        self.active: set[int] = set()
        self.here = False
        self.coming = False
        self.handle: Handle | None = None


class Handle:
    """A gather into one buffer, from which all parameters are copied once one of them is needed."""

    __slots__ = ("buffer", "parts")

    def __init__(self, buffer: Storage | None, parts: list[Part]) -> None:
        self.buffer = buffer
        self.parts = parts


class Coordinator:
    """Gathers the parameters of each module it is told of, and prefetches those of the modules to come.

    The first pass is recorded. From the second on the order is known: parameters are gathered ahead, and
    not let go of where they are needed again soon. ``available`` counts the elements gathered.
    """

    def __init__(self, tape: Tape, zero: Zero, count: int, dtype: Dtype) -> None:
        self.tape = tape
        self.zero = zero
        self.count = count
        self.dtype = dtype
        self.complete = self.recording = False
        self.modules: list[tuple[Part, ...]] = []
        self.queue: deque[tuple[Part, int]] = deque()
        self.fetched: dict[Part, int] = {}
        self.step = self.available = 0

    def reset(self) -> None:
        """``reset_step``, at the start of each forward pass."""
        found = {part for parts in self.modules for part in parts if part.coming or part.handle is not None}
        for part in sorted(found, key=lambda part: part.place):
            self._wait(part)
            self._let_go(part)
        self.complete = self.complete or self.recording
        self.recording = True
        self.queue = deque(
            (part, step) for step, parts in enumerate(self.modules) for part in parts if self.complete
        )
        self.fetched = {}
        self.step = self.available = 0

    def fetch(self, module: int, parts: tuple[Part, ...]) -> None:
        """``fetch_sub_module``: what the module needs now, and then what comes next."""
        if not self.complete:
            self.modules.append(parts)
        self._gather([part for part in parts if not part.here and not part.coming])
        for part in parts:
            part.active.add(module)
            self._wait(part)
        if self.complete:
            self._forget(parts)
            if self.zero.prefetch_bucket:
                self._prefetch()
        self.step += 1

    def release(self, module: int, parts: tuple[Part, ...]) -> None:
        """``release_sub_module``: lets go of what is not needed again soon."""
        kept = self._kept(parts) if self.complete else frozenset()
        for part in parts:
            part.active.discard(module)
            if part not in kept:
                self._let_go(part)

    def drop(self, parts: Iterable[Part]) -> None:
        """``release_and_reset_all``: let go of all, also of what persists."""
        for part in parts:
            self._wait(part)
            part.active.clear()
            self._let_go(part)

    def regather(self, parts: Sequence[Part]) -> None:
        """``all_gather`` of several parameters at once, each into memory of its own."""
        for part in parts:
            part.storage.take()
            part.here = True

    def _forget(self, parts: tuple[Part, ...]) -> None:
        """What is fetched now leaves the queue of what is to be prefetched."""
        fresh = {part for part in parts if self.fetched.get(part, NEVER) < self.step}
        found: set[Part] = set()
        while self.queue and len(found) < len(fresh):
            part, step = self.queue.popleft()
            self.fetched[part] = step
            found.add(part)

    def _prefetch(self) -> None:
        most = min(self.zero.max_live - self.available, self.zero.prefetch_bucket)
        ahead: list[Part] = []
        elements = 0
        while self.queue and elements < most:
            part, step = self.queue.popleft()
            self.fetched[part] = max(self.fetched.get(part, NEVER), step)
            if not part.here and not part.coming and part not in ahead:
                ahead.append(part)
                elements += part.size
        self._gather(ahead)

    def _gather(self, parts: list[Part]) -> None:
        """One parameter is gathered in place; several come in one buffer."""
        if not parts:
            return
        self.available += sum(part.size for part in parts)
        if len(parts) == 1:
            parts[0].storage.take()
        buffer = self._buffer(parts) if len(parts) > 1 else None
        handle = Handle(buffer, sorted(parts, key=lambda part: part.place))
        for part in parts:
            part.coming = True
            part.handle = handle

    def _buffer(self, parts: list[Part]) -> Storage:
        size = sum(-(-part.size // self.count) for part in parts) * self.count
        tag = ("communication", "deepspeed", "all_gather", (size,), self.dtype)
        return Storage(self.tape.trace, size * self.dtype.itemsize, tag)

    def _wait(self, part: Part) -> None:
        if part.handle is None:
            return
        for other in part.handle.parts:
            if other.coming:
                other.storage.take()
                other.coming, other.here = False, True
        part.handle = None

    def _let_go(self, part: Part) -> None:
        if part.here and not part.active:
            part.storage.release()
            part.here = False
            self.available -= part.size

    def _kept(self, parts: tuple[Part, ...]) -> frozenset[Part]:
        """``__params_to_release`` the other way round: what persists, was skipped, or is used again soon."""
        kept = {part for part in parts if part.persistent or self.fetched.get(part, NEVER) > self.step}
        passed = 0
        for others in self.modules[self.step :]:
            if passed >= self.zero.max_reuse:
                break
            kept.update(others)
            passed += sum(part.size for part in others)
        return frozenset(kept)
