"""The seam itself: PyTorch's own functions are called as the installed release has them, down to its C++."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from memplan import probe
from memplan.domain.bytes import Bytes
from memplan.domain.workload import Attention
from memplan.probe import Occupancy
from tests.oracle.libraries import library

torch = library("torch")

from memplan.smoke.gpu.driver import Cuda, Usage  # noqa: E402

MIB = 2**20
TRACE = [{"action": "alloc", "addr": 4096, "size": 100, "stream": 0, "time_us": 1, "frames": []}]


def counter(current: int, peak: int, allocated: int = 0) -> dict[str, dict[str, int]]:
    return {"all": {"current": current, "peak": peak, "allocated": allocated, "freed": allocated - current}}


class Hardware:
    """What PyTorch's bindings would do, and what they were told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.look = 0
        for name in (
            "_cuda_resetPeakMemoryStats",
            "_cuda_setMemoryFraction",
            "_cuda_record_memory_history",
            "_cuda_emptyCache",
            "_cuda_synchronize",
        ):
            monkeypatch.setattr(torch._C, name, self._noting(name), raising=False)
        monkeypatch.setattr(torch._C, "_cuda_memoryStats", self._statistics, raising=False)
        monkeypatch.setattr(torch._C, "_cuda_memorySnapshot", self._snapshot, raising=False)
        answers: dict[str, Any] = {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "init": lambda: None,
            "_lazy_init": lambda: None,
            "current_device": lambda: 0,
            "get_device_name": lambda _: "NVIDIA A100 80GB PCIe",
            "get_device_capability": lambda _: (8, 0),
            "get_device_properties": lambda _: SimpleNamespace(total_memory=81 * MIB),
            "mem_get_info": lambda _: (70 * MIB, 80 * MIB),
            "synchronize": self._noting("synchronize"),
        }
        for name, answer in answers.items():
            for module in (torch.cuda, torch.cuda.memory):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, answer)
        monkeypatch.setattr(probe, "occupancies", self._occupancies)

    def _noting(self, name: str) -> Any:
        def note(*arguments: Any, **_: Any) -> None:
            self.calls.append((name, *arguments))

        return note

    def _statistics(self, device: int) -> dict[str, Any]:
        assert device == 0
        return {
            "allocation": counter(3, 5, 7),
            "allocated_bytes": counter(30, 50),
            "reserved_bytes": counter(2 * MIB, 4 * MIB),
            "num_alloc_retries": 1,
        }

    def _snapshot(self, *_: Any) -> dict[str, Any]:
        return {"segments": [], "device_traces": [TRACE, []], "allocator_settings": {}}

    @contextmanager
    def _occupancies(self) -> Iterator[Any]:
        def look() -> tuple[Occupancy, ...]:
            self.look += 1
            mine = {os.getpid(): Bytes(300 * MIB)} if self.look > 1 else {}
            return (Occupancy(index=0, name="A100", used=Bytes(500 * MIB), processes=mine),)

        yield look


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Hardware:
    return Hardware(monkeypatch)


@pytest.fixture
def driver(hardware: Hardware) -> Iterator[Cuda]:
    with Cuda() as found:
        yield found


def test_a_gpu_is_introduced(driver: Cuda) -> None:
    assert (driver.place, driver.name, driver.capability) == ("cuda:0", "NVIDIA A100 80GB PCIe", (8, 0))
    assert (driver.free, driver.total) == (70 * MIB, 81 * MIB)


def test_counters_are_read_once_kernels_are_through(driver: Cuda, hardware: Hardware) -> None:
    assert driver.usage() == Usage(
        allocated=Bytes(30),
        reserved=Bytes(2 * MIB),
        most_allocated=Bytes(50),
        most_reserved=Bytes(4 * MIB),
        retries=1,
    )
    assert hardware.calls[0][0] == "synchronize"
    assert driver.count() == 7


def test_counters_limits_and_the_cache_are_set_on_that_gpu(driver: Cuda, hardware: Hardware) -> None:
    driver.restart()
    driver.allow(0.25)
    driver.give_back()
    assert hardware.calls == [
        ("_cuda_resetPeakMemoryStats", 0),
        ("_cuda_setMemoryFraction", 0.25, 0),
        ("_cuda_emptyCache",),
    ]


def test_history_is_kept_with_stacks_only_for_a_snapshot(
    driver: Cuda, hardware: Hardware, tmp_path: Path
) -> None:
    driver.record(stacks=False)
    driver.record(stacks=True)
    driver.forget()
    told = [(call[1], call[2]) for call in hardware.calls]
    assert told == [("all", None), ("all", "all"), (None, "all")]
    assert driver.history() == TRACE
    driver.dump(tmp_path / "out.pickle")
    assert pickle.loads((tmp_path / "out.pickle").read_bytes())["device_traces"][0] == TRACE


def test_the_process_is_what_the_driver_says_of_this_one(driver: Cuda) -> None:
    assert driver.held() == 300 * MIB


def test_attention_has_only_the_kernels_it_is_given(driver: Cuda) -> None:
    enabled = torch.backends.cuda
    before = (enabled.flash_sdp_enabled(), enabled.mem_efficient_sdp_enabled(), enabled.math_sdp_enabled())
    with driver.attending((Attention.EFFICIENT, Attention.MATH)):
        assert not enabled.flash_sdp_enabled()
        assert not enabled.cudnn_sdp_enabled()
        assert enabled.mem_efficient_sdp_enabled()
        assert enabled.math_sdp_enabled()
    assert before == (
        enabled.flash_sdp_enabled(),
        enabled.mem_efficient_sdp_enabled(),
        enabled.math_sdp_enabled(),
    )


def test_a_tensor_s_address_is_where_its_memory_begins(driver: Cuda) -> None:
    whole = torch.zeros(8)
    assert driver.address(whole[4:]) == driver.address(whole) == whole.data_ptr()
