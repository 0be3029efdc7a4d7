"""Replacing files: together or not at all, whoever else writes and whenever the process ends."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from memplan.apply import locks
from memplan.apply.journal import is_temporary
from memplan.apply.transaction import Rewrite, commit
from memplan.apply.undo import undo
from memplan.domain.errors import FileAccessError, MemplanError, StaleError

KILLED = """
import os, signal, sys
from pathlib import Path
from memplan.apply.transaction import Rewrite, commit

where, left, backup, *paths = sys.argv[1:]
left = int(left)

def killing(real):
    def call(*arguments):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(*arguments)
    return call

setattr(os, where, killing(getattr(os, where)))
rewrites = []
for path in paths:
    text = Path(path).read_bytes().decode()
    rewrites.append(Rewrite(path=path, before=text, after=text.replace("8", "4")))
verify = killing(lambda: None) if where == "replace" else lambda: None
commit(rewrites, backup=backup == "backup", verify=verify, journal=Path(paths[0] + ".undo"))
"""
"""A rewrite that kills itself in the call of ``where`` that follows ``left`` others."""

OLD = "batch: 8\r\nname: 'é😀'"
NEW = OLD.replace("8", "4")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "train.yml", tmp_path / "below" / "zero.json", tmp_path / "model.py"]
    found[1].parent.mkdir()
    for path in found:
        path.write_bytes(OLD.encode())
        path.chmod(0o640)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def killed(where: str, left: int, files: list[Path], *, backup: bool = False) -> None:
    kept = "backup" if backup else "none"
    command = [sys.executable, "-c", KILLED, where, str(left), kept, *map(str, files)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize("left", [0, 1])
def test_a_file_is_the_old_or_the_new_one_whenever_the_process_is_killed(
    files: list[Path], where: str, left: int
) -> None:
    killed(where, left, files[:1])
    renamed = (where, left) == ("replace", 1)
    assert files[0].read_bytes().decode() == (NEW if renamed else OLD)
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o640
    again = files[0].read_bytes().decode()
    commit([Rewrite(path=str(files[0]), before=again, after="x")], backup=False, verify=lambda: None)
    assert files[0].read_bytes() == b"x"


@pytest.mark.parametrize("left", range(4))
@pytest.mark.parametrize("backup", [False, True])
def test_several_files_of_a_killed_rewrite_are_taken_back_together(
    tmp_path: Path, files: list[Path], left: int, backup: bool
) -> None:
    before = contents(tmp_path)
    killed("replace", left, files, backup=backup)
    texts = [path.read_bytes().decode() for path in files]
    assert texts == [NEW] * left + [OLD] * (len(files) - left)
    assert len(undo(files[0]).files) == left
    assert contents(tmp_path) == before


def test_a_killed_rewrite_is_taken_back_before_another_one_begins(files: list[Path]) -> None:
    killed("replace", 1, files)
    rewrites = [Rewrite(path=str(path), before=path.read_bytes().decode(), after="x") for path in files]
    journal = Path(f"{files[0]}.undo")
    with pytest.raises(FileAccessError, match="interrupted") as caught:
        commit(rewrites, backup=True, verify=lambda: None, journal=journal)
    assert caught.value.hint == f"memplan apply --undo {files[0]}"
    undo(files[0])
    assert not journal.exists()
    assert not [name for path in files for name in path.parent.iterdir() if is_temporary(name.name, path)]


def test_of_many_writers_one_wins_and_the_others_learn_that_the_file_changed(files: list[Path]) -> None:
    start = threading.Barrier(8)
    won, lost = [], []

    def write(number: int) -> None:
        text = f"{number}" * 50_000
        start.wait()
        try:
            rewrite = Rewrite(path=str(files[0]), before=OLD, after=text)
            commit([rewrite], backup=False, verify=lambda: None)
            won.append(text)
        except MemplanError as error:
            lost.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [files[0].read_text()] == won
    assert len(lost) == 7
    assert all(isinstance(error, StaleError) for error in lost)


def test_a_folder_that_stays_locked_is_an_error(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    rewrite = Rewrite(path=str(files[0]), before=OLD, after=NEW)
    with (
        locks.locked([files[0].parent]),
        pytest.raises(FileAccessError, match="another memplan is writing"),
    ):
        commit([rewrite], backup=False, verify=lambda: None)
    assert files[0].read_bytes().decode() == OLD


def test_where_folders_cannot_be_locked_files_are_replaced_all_the_same(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    commit([Rewrite(path=str(files[0]), before=OLD, after=NEW)], backup=False, verify=lambda: None)
    assert files[0].read_bytes().decode() == NEW


def test_a_failed_rewrite_leaves_the_journal_that_was_there(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Path(f"{files[0]}.undo")
    journal.write_bytes(b"of someone else")
    rewrites = [Rewrite(path=str(path), before=OLD, after=NEW) for path in files]

    def full(source: object, destination: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileAccessError, match="no space left"):
        commit(rewrites, backup=True, verify=lambda: None, journal=journal)
    assert journal.read_bytes() == b"of someone else"
    assert not list(files[0].parent.glob("*.orig"))
