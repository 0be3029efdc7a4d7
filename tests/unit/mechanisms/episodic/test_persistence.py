"""Saved memories: complete or not there, and refused when a byte is not as it was written."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from memplan.domain.errors import FieldError, FileAccessError, InputError
from memplan.mechanisms.episodic import EpisodicMemory, Settings
from memplan.mechanisms.episodic.persistence import FORMAT


def made(capacity: int = 6, key_size: int = 3, count: int = 4) -> EpisodicMemory:
    memory = EpisodicMemory(Settings(capacity=capacity, key_size=key_size, value_size=2))
    rows = torch.randn(count, key_size, generator=torch.Generator().manual_seed(3))
    memory.write(rows, rows[:, :2])
    return memory


def content(**others: Any) -> dict[str, Any]:
    tensors = {
        "keys": torch.ones(2, 3),
        "values": torch.ones(2, 2),
        "hits": torch.ones(2, dtype=torch.int64),
        "last_used": torch.zeros(2, dtype=torch.int64),
    }
    return {"format": FORMAT, "clock": 1, "tensors": tensors, "sha256": "", **others}


@pytest.mark.parametrize("count", [0, 4])
def test_a_loaded_memory_answers_as_the_saved_one_did(tmp_path: Path, count: int) -> None:
    saved, loaded = made(count=count), made(capacity=9, count=2)
    saved.save(tmp_path / "memory")
    loaded.load(tmp_path / "memory")
    assert len(loaded) == count
    assert loaded.bank.clock == saved.bank.clock
    for name in ("keys", "values", "hits", "last_used"):
        assert torch.equal(getattr(loaded.bank, name)[:count], getattr(saved.bank, name)[:count])
        assert not getattr(loaded.bank, name)[count:].any()
    queries = torch.eye(3)
    assert torch.equal(loaded.read(queries).values, saved.read(queries).values)


def test_a_file_can_be_smaller_than_the_bank(tmp_path: Path) -> None:
    memory = made(capacity=50_000, count=1)
    memory.save(tmp_path / "memory")
    assert (tmp_path / "memory").stat().st_size < 10_000


def test_any_changed_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    saved = made()
    path = tmp_path / "memory"
    saved.save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        loaded = made(count=2)
        before = loaded.bank.keys.clone()
        try:
            loaded.load(path)
        except InputError:
            assert torch.equal(loaded.bank.keys, before)
        else:
            assert torch.equal(loaded.bank.keys, saved.bank.keys)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "memory"
    made().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="no saved memory, or damaged"):
        made().load(path)


@pytest.mark.parametrize(
    "foreign",
    [
        {"model": torch.ones(3)},
        [1, 2],
        content(format="memplan.episodic/9"),
        content(tensors={}),
        content(clock="soon"),
        content(sha256="0" * 64),
        content(tensors={**content()["tensors"], "keys": torch.ones(1, 1).expand(2, 3)}),
        content(tensors={**content()["tensors"], "hits": torch.zeros(2, dtype=torch.int64)}),
        content(tensors={**content()["tensors"], "hits": torch.ones(2)}),
        content(tensors={**content()["tensors"], "keys": torch.ones(3)}),
        content(tensors={**content()["tensors"], "keys": "text"}),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, foreign: object) -> None:
    torch.save(foreign, tmp_path / "other.pt")
    memory = made()
    with pytest.raises(InputError, match=r"no saved memory|damaged"):
        memory.load(tmp_path / "other.pt")
    assert len(memory) == 4


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("owned",)


def test_a_file_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": FORMAT, "tensors": Evil()}, tmp_path / "evil")
    with pytest.raises(InputError):
        made().load(tmp_path / "evil")
    assert not (tmp_path / "owned").exists()


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    memory = made()
    memory.bank.keys[0, 0] = float("nan")
    memory.save(tmp_path / "memory")
    with pytest.raises(InputError, match="holds NaN or infinity"):
        made().load(tmp_path / "memory")


def test_another_width_and_too_many_slots_are_refused(tmp_path: Path) -> None:
    made().save(tmp_path / "memory")
    with pytest.raises(FieldError, match="holds keys of width 3"):
        made(key_size=5).load(tmp_path / "memory")
    with pytest.raises(FieldError, match="holds 4 slots"):
        made(capacity=3, count=0).load(tmp_path / "memory")


def test_a_missing_file_and_a_missing_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="cannot be read: no such file"):
        made().load(tmp_path / "memory")
    with pytest.raises(FileAccessError, match="cannot be written: no such file"):
        made().save(tmp_path / "nowhere" / "memory")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("writer failed")])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "memory"
    made(count=2).save(path)
    before = path.read_bytes()

    def fail(_content: object, stream: Any) -> None:
        stream.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(FileAccessError, match="cannot be written"):
        made().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_that_is_killed_before_the_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "memory"
    made(count=2).save(path)
    before = path.read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        made().save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["rate", "threshold", "temperature"])
@pytest.mark.parametrize("value", ["0.5", None, True, float("nan")])
def test_a_setting_that_is_no_number_is_refused(name: str, value: Any) -> None:
    with pytest.raises(FieldError, match=f"{name} is"):
        Settings(capacity=4, key_size=2, **{name: value})


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="null byte"):
        made().save(tmp_path / "a\0b")


def test_what_the_disk_says_is_told(tmp_path: Path) -> None:
    memory = made(capacity=5000, key_size=64, count=5000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(FileAccessError, match="file too large"):
            memory.save(tmp_path / "memory")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())
