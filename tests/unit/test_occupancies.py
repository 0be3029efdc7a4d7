"""Who holds how much of a GPU, as the driver tells it; the driver is a fake one."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from memplan import probe
from memplan.domain.errors import InputError

GIB = 2**30


class FakeDriverError(Exception):
    """What NVML raises."""


def driver(**changes: Any) -> SimpleNamespace:
    functions = {
        "NVMLError": FakeDriverError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: b"Tesla T4",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(
            total=16 * GIB, used=3 * GIB, free=13 * GIB
        ),
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [
            SimpleNamespace(pid=7, usedGpuMemory=2 * GIB),
            SimpleNamespace(pid=8, usedGpuMemory=None),
        ],
    }
    return SimpleNamespace(**{**functions, **changes})


def failing(*arguments: Any) -> Any:
    raise FakeDriverError("not supported")


def looked(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[probe.Occupancy, ...]:
    monkeypatch.setitem(sys.modules, "pynvml", driver(**changes))
    with probe.occupancies() as look:
        return look()


def test_every_process_is_listed_with_its_bytes_or_without_where_the_driver_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (gpu,) = looked(monkeypatch)
    assert (gpu.name, gpu.used, gpu.processes) == ("Tesla T4", 3 * GIB, {7: 2 * GIB, 8: None})


def test_what_is_used_is_told_even_where_processes_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    (gpu,) = looked(monkeypatch, nvmlDeviceGetComputeRunningProcesses=failing)
    assert (gpu.used, gpu.processes) == (3 * GIB, {})


def test_a_driver_that_stops_answering_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, nvmlDeviceGetMemoryInfo=failing) == ()


def test_without_a_driver_it_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no NVIDIA GPU can be seen"):
        looked(monkeypatch, nvmlInit=failing)
