from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from memplan import profiles
from memplan.cli import target
from memplan.dialects.reading import Origin
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError, InputError, Location, UnknownNameError
from tests.unit.reporters.samples import reading

GIB = 2**30


def driver(name: str = "NVIDIA GeForce RTX 3090", total: int = 24 * GIB, free: int = 20 * GIB) -> ModuleType:
    """A stand-in for the NVML bindings with one GPU."""
    nvml = ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    calls = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=total, free=free),
        "nvmlDeviceGetName": lambda handle: name,
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (8, 6),
    }
    for attribute, value in calls.items():
        setattr(nvml, attribute, value)
    return nvml


def test_the_command_line_wins_over_the_config() -> None:
    chosen = target.chosen("gtx1650", "rtx3090")
    assert chosen is not None
    assert chosen.name == "gtx1650"


def test_the_configs_own_target_is_used_when_nothing_else_is_said() -> None:
    chosen = target.chosen(None, "rtx3090", ram="64GiB")
    assert chosen is not None
    assert (chosen.name, chosen.ram) == ("rtx3090", 64 * GIB)


def test_no_target_at_all_is_none_or_an_error_where_one_is_needed() -> None:
    assert target.chosen(None, None) is None
    with pytest.raises(InputError, match="case names no GPU to fit"):
        target.required(reading(), None)


def test_an_unknown_gpu_of_the_config_is_pointed_at() -> None:
    place = Location(path="case/memplan.yaml", line=3)
    found = reading(gpu="rtx3091", origins={"target.gpu": Origin(how="written", location=place)})
    with pytest.raises(UnknownNameError) as caught:
        target.of_reading(found, None)
    assert caught.value.location == place
    with pytest.raises(UnknownNameError) as caught:
        target.of_reading(found, "rtx3092")
    assert caught.value.location is None


def test_ram_without_a_gpu_is_refused() -> None:
    with pytest.raises(InputError, match="--ram needs a GPU"):
        target.chosen(None, None, ram="64GiB")


def test_ram_without_a_unit_is_refused() -> None:
    with pytest.raises(FieldError, match="has no unit"):
        target.chosen("rtx3090", None, ram="64")


def test_an_unknown_gpu_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="gtx1650"):
        target.chosen("gtx1560", None)


def test_auto_takes_the_profile_of_the_probed_gpu_and_what_is_free_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    found = target.chosen("auto", None)
    assert found is not None
    assert found.gpu == profiles.gpu("rtx3090")
    assert found.limit == 20 * GIB


def test_auto_never_promises_more_than_the_usable_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(free=24 * GIB))
    assert target.this_machine().limit == profiles.gpu("rtx3090").usable


def test_auto_works_for_a_gpu_nobody_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(name="NVIDIA Prototype X"))
    found = target.this_machine(Bytes(GIB))
    assert (found.gpu, found.name, found.limit, found.ram) == (None, "NVIDIA Prototype X", 20 * GIB, GIB)
    assert found.compute_capability == (8, 6)


def test_auto_without_a_driver_says_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = driver()

    def refuse() -> None:
        raise nvml.NVMLError("Driver Not Loaded")

    monkeypatch.setattr(nvml, "nvmlInit", refuse)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with pytest.raises(InputError, match="Driver Not Loaded") as caught:
        target.this_machine()
    assert "--gpu" in (caught.value.hint or "")
