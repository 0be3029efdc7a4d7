"""The seam to the GPU: the only module that calls ``torch.cuda`` and asks the NVIDIA driver.

Everything else of this package talks to a ``Driver``; tests put one in its place that counts tensors of a
CPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError
from memplan.domain.workload import Attention
from memplan.smoke.watch.graphics import GpuMeter

Entry = Mapping[str, Any]
"""One action of the allocator: ``action``, ``addr``, ``size`` (see ``torch.cuda.memory._snapshot``)."""

MOST_ENTRIES = 2_000_000
"""Actions that are kept: far more than a few steps of any model make."""

KERNELS = {
    Attention.FLASH_ATTENTION_2: SDPBackend.FLASH_ATTENTION,
    Attention.EFFICIENT: SDPBackend.EFFICIENT_ATTENTION,
    Attention.MATH: SDPBackend.MATH,
}
"""PyTorch's names for kernels of ``scaled_dot_product_attention``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """PyTorch's counters, in bytes: now, and at most since they were last restarted.

    ``retries`` counts how often cached memory was given back to make room, since the process began.
    """

    allocated: Bytes
    reserved: Bytes
    most_allocated: Bytes
    most_reserved: Bytes
    retries: int


class Driver(Protocol):
    """One GPU. ``place`` is its name in PyTorch.

    ``total`` is what it has in all, ``free`` what was left of it once there was a context.
    """

    place: str
    name: str
    capability: tuple[int, int]
    total: Bytes
    free: Bytes
    shortage: type[BaseException]

    def usage(self) -> Usage:
        """The counters, once all kernels are through."""

    def restart(self) -> None:
        """The highest amounts count from now on."""

    def give_back(self) -> None:
        """Cached memory goes back to the driver."""

    def allow(self, fraction: float) -> None:
        """PyTorch may reserve this share of ``total``, and fails beyond it."""

    def attending(self, kernels: Iterable[Attention]) -> AbstractContextManager[Any]:
        """``scaled_dot_product_attention`` has these kernels only until the block ends."""

    def record(self, *, stacks: bool) -> None:
        """Keep every action of the allocator from now on, with Python's stack at each if asked."""

    def count(self) -> int:
        """How many allocations there were since the process began."""

    def history(self) -> Sequence[Entry]:
        """The actions kept so far, in order."""

    def dump(self, path: Path) -> None:
        """Write what was recorded, for PyTorch's viewer."""

    def forget(self) -> None:
        """Stop recording."""

    def address(self, tensor: Any) -> int:
        """Where the memory of a tensor begins, as history names it."""

    def held(self) -> Bytes | None:
        """What the process holds of the GPU as the driver counts it, context included; None if not told."""


class Cuda(AbstractContextManager["Cuda"]):
    """The GPU that PyTorch takes first, which ``CUDA_VISIBLE_DEVICES`` may choose."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.shortage: type[BaseException] = torch.cuda.OutOfMemoryError

    def __enter__(self) -> Self:
        """Begin with CUDA.

        Raises:
            InputError: PyTorch has no GPU here.
        """
        # Made before there is a context: what the GPU holds more from here on is this process's.
        self._meter = self._stack.enter_context(GpuMeter())
        if not torch.cuda.is_available():
            raise _absent()
        torch.cuda.init()
        self.index = torch.cuda.current_device()
        self.place = f"cuda:{self.index}"
        self.name = torch.cuda.get_device_name(self.index)
        self.capability: tuple[int, int] = torch.cuda.get_device_capability(self.index)
        free, total = torch.cuda.mem_get_info(self.index)
        # Releases take fractions of the one or the other; should they differ, no limit is set too high.
        total = max(total, torch.cuda.get_device_properties(self.index).total_memory)
        self.free, self.total = Bytes(free), Bytes(total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def usage(self) -> Usage:
        """See ``Driver``."""
        torch.cuda.synchronize(self.index)
        found = torch.cuda.memory_stats(self.index)
        return Usage(
            allocated=Bytes(found["allocated_bytes.all.current"]),
            reserved=Bytes(found["reserved_bytes.all.current"]),
            most_allocated=Bytes(found["allocated_bytes.all.peak"]),
            most_reserved=Bytes(found["reserved_bytes.all.peak"]),
            retries=int(found["num_alloc_retries"]),
        )

    def restart(self) -> None:
        """See ``Driver``."""
        torch.cuda.reset_peak_memory_stats(self.index)

    def give_back(self) -> None:
        """See ``Driver``."""
        torch.cuda.empty_cache()

    def allow(self, fraction: float) -> None:
        """See ``Driver``."""
        torch.cuda.set_per_process_memory_fraction(fraction, self.index)

    def attending(self, kernels: Iterable[Attention]) -> AbstractContextManager[Any]:
        """See ``Driver``."""
        found: AbstractContextManager[Any] = sdpa_kernel([KERNELS[kernel] for kernel in kernels])
        return found

    def record(self, *, stacks: bool) -> None:
        """See ``Driver``."""
        torch.cuda.memory._record_memory_history(
            "all", context="all" if stacks else None, stacks="python", max_entries=MOST_ENTRIES
        )

    def count(self) -> int:
        """See ``Driver``."""
        return int(torch.cuda.memory_stats(self.index)["allocation.all.allocated"])

    def history(self) -> Sequence[Entry]:
        """See ``Driver``."""
        found: Sequence[Entry] = torch.cuda.memory._snapshot()["device_traces"][self.index]
        return found

    def dump(self, path: Path) -> None:
        """See ``Driver``."""
        torch.cuda.memory._dump_snapshot(str(path))

    def forget(self) -> None:
        """See ``Driver``."""
        torch.cuda.memory._record_memory_history(None)

    def address(self, tensor: Any) -> int:
        """See ``Driver``."""
        return int(tensor.untyped_storage().data_ptr())

    def held(self) -> Bytes | None:
        """See ``Driver``: by NVML, which PyTorch's counters know nothing of."""
        found = self._meter.read((os.getpid(),))
        return Bytes(sum(amount for amount, _ in found.values())) if found else None


def _absent() -> InputError:
    if torch.version.cuda is None:
        return InputError(
            f"the installed torch {torch.__version__} is built without CUDA",
            hint="install a build with CUDA, or use --device cpu or --device fake",
        )
    return InputError(
        "PyTorch sees no NVIDIA GPU on this machine", hint="use --device cpu, or --device fake for any size"
    )
