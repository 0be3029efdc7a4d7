"""What this machine has: its NVIDIA GPUs as the driver reports them, host memory, disk.

The driver is asked through NVML, so no CUDA context is created and no memory is used.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError
from memplan.probe.memory import PROC, free_ram, ram

__all__ = ["Device", "Holder", "Occupancy", "devices", "disk", "driver", "free_ram", "occupancies", "ram"]

_HINT = "name a GPU with --gpu (memplan gpus lists them), or an amount such as --gpu 24GiB"

_FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""Inode of the namespace of process ids that a machine starts with (``PROC_PID_INIT_INO`` in Linux
include/linux/proc_ns.h): elsewhere the driver's ids are not those of this process's /proc."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that holds memory of a GPU: its id, and its name and bytes where these can be known."""

    pid: int
    name: str | None
    used: Bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU as the driver describes it now. ``capacity`` and ``free`` are NVML's total and free memory.

    ``holders`` are the processes on it, those that hold most first.
    """

    index: int
    name: str
    capacity: Bytes
    free: Bytes
    compute_capability: tuple[int, int]
    uuid: str = ""
    holders: tuple[Holder, ...] = ()


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


def driver() -> str | None:
    """The release of the NVIDIA driver, such as ``550.54.14``; None where there is none that tells."""
    try:
        with _nvml() as nvml:
            found = nvml.nvmlSystemGetDriverVersion()
    except InputError:
        return None
    return found.decode() if isinstance(found, bytes) else str(found)


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
    uuid = nvml.nvmlDeviceGetUUID(handle)
    return Device(
        index=index,
        name=_name(nvml, handle),
        capacity=Bytes(memory.total),
        free=Bytes(memory.free),
        compute_capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
        uuid=uuid.decode() if isinstance(uuid, bytes) else str(uuid),
        holders=_named_holders(nvml, handle),
    )


def _named_holders(nvml: Any, handle: Any) -> tuple[Holder, ...]:
    """Everybody on a GPU: who computes, and who draws (a desktop takes memory too)."""
    found = {**_drawing(nvml, handle), **_holders(nvml, handle)}
    holders = [Holder(pid=pid, name=_process_name(pid), used=used) for pid, used in found.items()]
    return tuple(sorted(holders, key=lambda holder: (-(holder.used or 0), holder.pid)))


def _drawing(nvml: Any, handle: Any) -> dict[int, Bytes | None]:
    try:
        listed = nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)
    except nvml.NVMLError:
        return {}
    return {item.pid: None if item.usedGpuMemory is None else Bytes(item.usedGpuMemory) for item in listed}


def _process_name(pid: int) -> str | None:
    """A process's name by its id; None in a container, where the same id is somebody else's."""
    try:
        if (PROC / "self/ns/pid").stat().st_ino != _FIRST_PID_NAMESPACE:
            return None
        name = (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return "".join(sign for sign in name.strip() if sign.isprintable()) or None
