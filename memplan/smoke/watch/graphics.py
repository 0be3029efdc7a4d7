"""GPU memory of a set of processes, as the driver counts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self

from memplan import probe
from memplan.domain.errors import InputError
from memplan.probe import Occupancy

LEAST = 64 * 2**20
"""No CUDA context is smaller: an idle GPU's use may move by less without anybody having come."""

Look = Callable[[], tuple[Occupancy, ...]]


class GpuMeter(AbstractContextManager["GpuMeter"]):
    """What processes hold of each GPU. ``absent`` says why there is none to be seen.

    In a container the driver names processes by the host's ids, or none (NVIDIA/nvidia-docker issue #1483).
    Growth of the whole GPU since the meter was made stands in then; ``fresh`` False counts from nothing.
    """

    def __init__(self, *, fresh: bool = True) -> None:
        self.fresh = fresh
        self._stack = ExitStack()
        self._look: Look | None = None
        self._before: Mapping[int, int] = {}
        self.absent: str | None = None
        self.names: dict[int, str] = {}

    def __enter__(self) -> Self:
        try:
            self._look = self._stack.enter_context(probe.occupancies())
        except InputError as error:
            self.absent = error.message
            return self
        found = self._look()
        self.names = {gpu.index: gpu.name for gpu in found}
        self._before = {gpu.index: gpu.used for gpu in found} if self.fresh else {}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def read(self, pids: Iterable[int]) -> dict[int, tuple[int, bool]]:
        """Bytes held of each GPU that is used, and whether the driver named the processes that hold them."""
        if self._look is None:
            return {}
        mine = frozenset(pids)
        found = {gpu.index: self._held(gpu, mine) for gpu in self._look()}
        return {index: held for index, held in found.items() if held[0]}

    def _held(self, gpu: Occupancy, mine: frozenset[int]) -> tuple[int, bool]:
        self.names.setdefault(gpu.index, gpu.name)
        amounts = [amount for pid, amount in gpu.processes.items() if pid in mine]
        told = [amount for amount in amounts if amount is not None]
        if amounts and len(told) == len(amounts):
            return sum(told), True
        if not amounts and gpu.processes and all(map(_is_here, gpu.processes)):
            return 0, True
        grown = gpu.used - self._before.get(gpu.index, 0)
        return (grown, False) if grown >= LEAST else (0, True)


def _is_here(pid: int) -> bool:
    """Whether a process id means somebody in this container."""
    import psutil

    return bool(psutil.pid_exists(pid))
