"""Host memory, in all and free, as a made-up machine tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan import probe
from memplan.probe import memory

GIB = 2**30
SECOND = ("memory.max", "memory.current", "inactive_file")
FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of 16 GiB, 10 of them available; its control groups are to be made."""
    (tmp_path / "proc/self").mkdir(parents=True)
    lines = [f"MemTotal:       {16 * 2**20} kB", f"MemAvailable:   {10 * 2**20} kB"]
    (tmp_path / "proc/meminfo").write_text("\n".join(lines), encoding="ascii")
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "cgroup")
    return tmp_path


def member(machine: Path, line: str) -> None:
    (machine / "proc/self/cgroup").write_text(f"9:cpu:/x\n{line}\n", encoding="ascii")


def group(folder: Path, names: tuple[str, str, str], limit: str, used: int, back: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(names, (limit, str(used)), strict=False):
        (folder / name).write_text(f"{text}\n", encoding="ascii")
    (folder / "memory.stat").write_text(f"anon 7\n{names[2]} {back}\n", encoding="ascii")


def test_without_control_groups_it_is_what_the_kernel_says(machine: Path) -> None:
    assert probe.free_ram() == 10 * GIB


def test_a_group_allows_its_limit_less_what_it_uses(machine: Path) -> None:
    member(machine, "0::/job")
    group(machine / "cgroup/job", SECOND, str(4 * GIB), 3 * GIB)
    assert probe.free_ram() == GIB


def test_file_pages_that_are_not_in_use_are_taken_back(machine: Path) -> None:
    member(machine, "0::/job")
    group(machine / "cgroup/job", SECOND, str(4 * GIB), 3 * GIB, back=2 * GIB)
    assert probe.free_ram() == 3 * GIB


def test_a_group_around_the_own_one_counts_too(machine: Path) -> None:
    member(machine, "0::/pod/job")
    group(machine / "cgroup/pod/job", SECOND, "max", 3 * GIB)
    group(machine / "cgroup/pod", SECOND, str(5 * GIB), 3 * GIB)
    assert probe.free_ram() == 2 * GIB


def test_groups_of_the_first_version_have_other_names(machine: Path) -> None:
    member(machine, "4:hugetlb,memory:/job")
    group(machine / "cgroup/memory/job", FIRST, str(4 * GIB), GIB)
    assert probe.free_ram() == 3 * GIB


def test_within_a_container_the_own_group_is_the_root_that_is_seen(machine: Path) -> None:
    member(machine, "4:memory:/docker/0123")
    group(machine / "cgroup/memory", FIRST, str(2 * GIB), GIB)
    assert probe.free_ram() == GIB


def test_a_group_beyond_its_limit_has_nothing_left(machine: Path) -> None:
    member(machine, "0::/job")
    group(machine / "cgroup/job", SECOND, str(GIB), 3 * GIB)
    assert probe.free_ram() == 0


def test_a_system_that_does_not_tell_leaves_it_unknown(machine: Path) -> None:
    (machine / "proc/meminfo").write_text("MemTotal: 1 kB\n", encoding="ascii")
    assert probe.free_ram() is None
    (machine / "proc/meminfo").unlink()
    assert probe.free_ram() is None


def test_what_a_machine_has_in_all_is_no_more_than_its_groups_allow(machine: Path) -> None:
    whole = probe.ram()
    assert whole is not None
    member(machine, "0::/pod/job")
    group(machine / "cgroup/pod/job", SECOND, "max", 3 * GIB)
    group(machine / "cgroup/pod", SECOND, str(GIB), 3 * GIB)
    assert probe.ram() == GIB
    group(machine / "cgroup/pod", SECOND, str(2**62), 3 * GIB)
    assert probe.ram() == whole
