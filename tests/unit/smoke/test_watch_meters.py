"""The parts of ``watch`` that need no process: whose GPU memory it is, phases, peaks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan import probe
from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError
from memplan.probe import Occupancy
from memplan.smoke.watch.graphics import GpuMeter
from memplan.smoke.watch.peaks import MOST_PHASES, Peaks
from memplan.smoke.watch.phases import LONGEST, PhaseFile
from memplan.smoke.watch.resident import Resident

GIB = 2**30
HERE, STRANGER = os.getpid(), 2**22 + 7
"""A process of this machine, and an id that means nobody here: as in a container."""


def gpu(used: int, processes: Mapping[int, int | None], index: int = 0) -> Occupancy:
    held = {pid: None if amount is None else Bytes(amount) for pid, amount in processes.items()}
    return Occupancy(index=index, name="Tesla T4", used=Bytes(used), processes=held)


def metered(
    monkeypatch: pytest.MonkeyPatch,
    *looks: tuple[Occupancy, ...],
    mine: tuple[int, ...] = (),
    fresh: bool = True,
) -> dict[int, tuple[int, bool]]:
    """What a meter says of the last look, when it was made at the first."""
    coming = iter(looks)

    @contextmanager
    def driver() -> Iterator[object]:
        yield lambda: next(coming)

    monkeypatch.setattr(probe, "occupancies", driver)
    with GpuMeter(fresh=fresh) as meter:
        for _ in looks[1:]:
            found = meter.read(mine)
    return found


def test_memory_is_added_up_over_the_processes_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = (gpu(0, {}), gpu(0, {}, 1))
    busy = (gpu(9 * GIB, {1: 2 * GIB, 2: 3 * GIB, HERE: 4 * GIB}), gpu(GIB, {2: GIB}, 1))
    assert metered(monkeypatch, idle, busy, mine=(1, 2)) == {0: (5 * GIB, True), 1: (GIB, True)}


def test_what_others_of_this_machine_take_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metered(monkeypatch, (gpu(0, {}),), (gpu(4 * GIB, {HERE: 4 * GIB}),), mine=(1, 2)) == {}


def test_in_a_container_the_growth_of_the_whole_gpu_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (gpu(GIB, {STRANGER: GIB}),)
    after = (gpu(5 * GIB, {STRANGER: GIB, STRANGER + 1: 4 * GIB}),)
    assert metered(monkeypatch, before, after, mine=(1, 2)) == {0: (4 * GIB, False)}
    assert metered(monkeypatch, (gpu(GIB, {}),), (gpu(5 * GIB, {}),), mine=(1,)) == {0: (4 * GIB, False)}
    assert metered(monkeypatch, before, after, mine=(1,), fresh=False) == {0: (5 * GIB, False)}


def test_where_the_driver_gives_no_amounts_growth_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metered(monkeypatch, (gpu(0, {}),), (gpu(3 * GIB, {1: None}),), mine=(1,)) == {0: (3 * GIB, False)}


def test_an_idle_gpu_may_hold_a_little_more_than_before(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metered(monkeypatch, (gpu(0, {}),), (gpu(2**20, {}),), mine=(1,)) == {}


def test_a_driver_that_stops_answering_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metered(monkeypatch, (gpu(0, {}),), (), mine=(1,)) == {}


def test_without_a_driver_it_is_said_why_nothing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise InputError("no NVIDIA GPU can be seen")

    monkeypatch.setattr(probe, "occupancies", absent)
    with GpuMeter() as meter:
        assert meter.read([1]) == {}
    assert meter.absent == "no NVIDIA GPU can be seen"


def test_the_phase_is_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "phases"
    follower = PhaseFile(path)
    told = [follower.current()]
    for text in ("", "lo", "ad\nfor", "ward", "\n\n", "\x1b[31mred\x07\n", "x" * 999 + "\n", "next"):
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)
        told.append(follower.current())
    assert told == [None, None, None, "load", "load", "forward", "[31mred", "x" * LONGEST, "x" * LONGEST]


def test_a_phase_file_of_any_size_is_read_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "phases"
    path.write_bytes(b"noise\n" * 10**6 + b"end\n")
    assert PhaseFile(path).current() == "end"


def resident(amount: int, highest: int | None = None) -> Resident:
    return Resident(rss=amount, highest=amount if highest is None else highest, held=amount, shared_once=True)


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40), st.sampled_from([None, "a", "b"]))))
def test_peaks_are_the_highest_of_all_looks_and_of_each_phase(
    looks: list[tuple[int, int, str | None]],
) -> None:
    peaks = Peaks()
    for second, (host, amount, phase) in enumerate(looks):
        peaks.take(float(second), resident(host), {0: (amount, True)} if amount else {}, phase)
    highest = max((host for host, _, _ in looks), default=0)
    assert peaks.held.bytes == peaks.rss.bytes == highest
    assert highest == 0 or looks[int(peaks.held.seconds or 0)][0] == highest
    assert sum(gpu.peak.bytes for gpu in peaks.gpus({})) == max((amount for _, amount, _ in looks), default=0)
    for name, on_gpu, host in peaks.phases():
        assert on_gpu == max(amount for _, amount, phase in looks if phase == name)
        assert host == max(amount for amount, _, phase in looks if phase == name)


def test_a_peak_between_two_looks_is_known_without_its_time_when_nobody_had_looked_before() -> None:
    peaks = Peaks()
    peaks.take(0.0, resident(5, highest=9), {}, "load")
    assert (peaks.rss.bytes, peaks.rss.seconds, peaks.rss.phase) == (9, None, None)
    peaks.take(1.0, resident(5, highest=12), {}, "load")
    assert (peaks.rss.bytes, peaks.rss.seconds) == (12, 1.0)
    peaks.remember(11)
    assert peaks.rss.bytes == 12
    peaks.remember(13)
    assert (peaks.rss.bytes, peaks.rss.seconds) == (13, None)


def test_names_that_are_no_phases_are_not_collected_for_ever() -> None:
    peaks = Peaks()
    for step in range(2 * MOST_PHASES):
        peaks.take(0.0, resident(1), {}, f"step {step}")
    assert len(peaks.phases()) == MOST_PHASES
