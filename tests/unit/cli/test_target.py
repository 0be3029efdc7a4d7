from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from memplan import probe, profiles
from memplan.cli import target
from memplan.dialects.reading import Origin
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError, InputError, Location, UnknownNameError
from tests.unit.reporters.samples import reading

GIB = 2**30


@pytest.fixture(autouse=True)
def every_gpu_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def driver(
    name: str = "NVIDIA GeForce RTX 3090",
    total: int = 24 * GIB,
    free: int | tuple[int, ...] = 20 * GIB,
    computing: tuple[SimpleNamespace, ...] = (),
    drawing: tuple[SimpleNamespace, ...] = (),
) -> ModuleType:
    """A stand-in for the NVML bindings with as many GPUs as there are amounts that are free."""
    nvml = ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    left = (free,) if isinstance(free, int) else free
    calls = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(left),
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=total, free=left[handle]),
        "nvmlDeviceGetName": lambda handle: name,
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (8, 6),
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}a",
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: computing,
        "nvmlDeviceGetGraphicsRunningProcesses": lambda handle: drawing,
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


def holding(pid: int, used: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


def notes(monkeypatch: pytest.MonkeyPatch, nvml: ModuleType) -> tuple[str, ...]:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    found = target.chosen("auto", None)
    assert found is not None
    return found.notes


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A /proc of a machine, not of a container, that has one process with a name."""
    namespace = tmp_path / "self/ns/pid"
    namespace.parent.mkdir(parents=True)
    namespace.touch()
    monkeypatch.setattr(probe, "PROC", tmp_path)
    monkeypatch.setattr(probe, "_FIRST_PID_NAMESPACE", namespace.stat().st_ino)
    (tmp_path / "4711").mkdir()
    (tmp_path / "4711/comm").write_text("python\n", encoding="utf-8")
    return tmp_path


def test_whoever_uses_the_gpu_is_named_with_its_bytes_the_largest_first(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    nvml = driver(computing=(holding(4711, 2 * GIB),), drawing=(holding(4711, 2 * GIB), holding(12, 3 * GIB)))
    assert notes(monkeypatch, nvml) == (
        "3.00 GiB of gpu 0 is used by a process (pid 12)",
        "2.00 GiB of gpu 0 is used by python (pid 4711)",
    )


def test_in_a_container_ids_are_those_of_the_host_so_that_no_process_is_named(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    monkeypatch.setattr(probe, "_FIRST_PID_NAMESPACE", -1)
    found = notes(monkeypatch, driver(computing=(holding(4711, 2 * GIB),)))
    assert found == ("2.00 GiB of gpu 0 is used by a process (pid 4711)",)


def test_bytes_the_driver_does_not_tell_are_said_to_be_unknown(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    (found,) = notes(monkeypatch, driver(computing=(holding(4711, None),)))
    assert found == "gpu 0 is used by python (pid 4711); the driver does not say how much of it"


def test_memory_in_use_is_told_of_even_when_nobody_is_seen_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = notes(monkeypatch, driver())
    assert found.endswith("GiB of gpu 0 is in use; the driver does not say by whom")


def test_of_a_gpu_that_is_free_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert notes(monkeypatch, driver(free=profiles.gpu("rtx3090").usable)) == ()


def test_a_driver_that_lists_no_processes_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = driver(free=24 * GIB)

    def refuse(handle: object) -> None:
        raise nvml.NVMLError("Not Supported")

    monkeypatch.setattr(nvml, "nvmlDeviceGetComputeRunningProcesses", refuse)
    monkeypatch.setattr(nvml, "nvmlDeviceGetGraphicsRunningProcesses", refuse)
    assert notes(monkeypatch, nvml) == ()


@pytest.mark.parametrize(
    ("asked", "visible", "free"),
    [
        ("auto", None, 20 * GIB),
        ("auto", "1", 10 * GIB),
        ("auto", "1,0", 10 * GIB),
        ("auto", "GPU-1a", 10 * GIB),
        ("auto", "", 20 * GIB),
        ("auto:1", None, 10 * GIB),
        ("AUTO:0", "1", 20 * GIB),
    ],
)
def test_auto_takes_the_gpu_that_a_run_would_take_or_the_one_of_that_number(
    asked: str, visible: str | None, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(free=(20 * GIB, 10 * GIB)))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = target.chosen(asked, None)
    assert found is not None
    assert found.free == free


def test_a_number_beyond_the_gpus_there_are_says_which_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    with pytest.raises(InputError, match="has no GPU 1") as caught:
        target.chosen("auto:1", None)
    assert caught.value.hint == "it has auto:0 (NVIDIA GeForce RTX 3090)"


@pytest.mark.parametrize("asked", ["auto:", "auto:x", "auto:-1", "auto:1.5", "auto:²"])
def test_what_follows_auto_has_to_be_a_number(asked: str) -> None:
    with pytest.raises(FieldError, match="is not the number of a GPU"):
        target.chosen(asked, None)


def test_auto_reckons_with_the_host_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver())
    monkeypatch.setattr(probe, "free_ram", lambda: Bytes(5 * GIB))
    assert target.this_machine().ram == 5 * GIB
    assert target.this_machine(Bytes(GIB)).ram == GIB
    monkeypatch.setattr(probe, "free_ram", lambda: None)
    assert target.this_machine().ram == probe.ram()


def test_what_is_free_counts_before_what_there_is() -> None:
    assert target.free_of(None, None) is None
    assert target.free_of("64GiB", None) == "64GiB"
    assert target.free_of("64GiB", "48GiB") == "48GiB"
    assert target.free_of(None, "48GiB") == "48GiB"


@pytest.mark.parametrize(
    ("ram", "free", "message"),
    [("32GiB", "64GiB", "--free-ram 64GiB is more than --ram 32GiB"), ("32GiB", "8", "--free-ram: ")],
)
def test_free_memory_that_makes_no_sense_is_refused(ram: str, free: str, message: str) -> None:
    with pytest.raises(FieldError, match=message):
        target.free_of(ram, free)
