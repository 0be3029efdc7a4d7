"""What this machine has: its NVIDIA GPUs as the driver reports them, host memory, disk.

The driver is asked through NVML, so no CUDA context is created and no memory is used.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError

_HINT = "name a GPU with --gpu (memplan gpus lists them), or an amount such as --gpu 24GiB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU as the driver describes it now. ``capacity`` and ``free`` are NVML's total and free memory."""

    index: int
    name: str
    capacity: Bytes
    free: Bytes
    compute_capability: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """Who holds how much of one GPU at one moment.

    ``used`` is everybody's. ``processes`` are bytes by process id, None where the driver does not tell; in a
    container the ids are those of the host.
    """

    index: int
    name: str
    used: Bytes
    processes: Mapping[int, Bytes | None]


def devices() -> tuple[Device, ...]:
    """Every NVIDIA GPU of this machine, in the driver's order.

    Raises:
        InputError: there is no NVIDIA driver here, or it does not answer.
    """
    with _nvml() as nvml:
        return tuple(_device(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))


@contextmanager
def occupancies() -> Iterator[Callable[[], tuple[Occupancy, ...]]]:
    """A look at every GPU of this machine, to be taken as often as wanted while the block lasts.

    A look that the driver does not answer shows nothing: it may come back.

    Raises:
        InputError: there is no NVIDIA driver here.
    """
    with _nvml() as nvml:

        def look() -> tuple[Occupancy, ...]:
            try:
                return tuple(_occupancy(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
            except nvml.NVMLError:
                return ()

        yield look


def ram() -> Bytes | None:
    """Physical memory of this machine; None where the system does not tell."""
    try:
        return Bytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return None


def disk(folder: Path) -> Bytes | None:
    """Free space on the disk that holds a folder; None when it cannot be asked."""
    try:
        return Bytes(shutil.disk_usage(folder).free)
    except OSError:
        return None


@contextmanager
def _nvml() -> Iterator[Any]:
    try:
        import pynvml
    except ImportError:
        raise InputError(
            "nvidia-ml-py is not installed, so this machine's GPUs cannot be seen", hint=_HINT
        ) from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise InputError(f"no NVIDIA GPU can be seen on this machine: {error}", hint=_HINT) from None
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise InputError(f"the NVIDIA driver does not answer: {error}", hint=_HINT) from None
    finally:
        pynvml.nvmlShutdown()


def _name(nvml: Any, handle: Any) -> str:
    name = nvml.nvmlDeviceGetName(handle)
    return name.decode() if isinstance(name, bytes) else str(name)


def _occupancy(nvml: Any, index: int) -> Occupancy:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    return Occupancy(
        index=index,
        name=_name(nvml, handle),
        used=Bytes(nvml.nvmlDeviceGetMemoryInfo(handle).used),
        processes=_holders(nvml, handle),
    )


def _holders(nvml: Any, handle: Any) -> dict[int, Bytes | None]:
    """Bytes by process id; nothing where the driver cannot list them."""
    try:
        listed = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return {}
    return {item.pid: None if item.usedGpuMemory is None else Bytes(item.usedGpuMemory) for item in listed}


def _device(nvml: Any, index: int) -> Device:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Device(
        index=index,
        name=_name(nvml, handle),
        capacity=Bytes(memory.total),
        free=Bytes(memory.free),
        compute_capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
    )
