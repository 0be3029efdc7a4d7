"""Taking the last rewrite back."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from memplan import profiles
from memplan.apply import apply
from memplan.apply.transaction import Rewrite, commit
from memplan.apply.undo import undo
from memplan.cli import main
from memplan.domain.errors import FileAccessError, InputError, StaleError
from memplan.fit import fit
from memplan.read import read
from tests.planning import estimate

NEUROGEN = Path(__file__).resolve().parents[2] / "examples" / "neurogen"
OLD = "# head\nbatch: 8\n"
NEW = "# head\nbatch: 4\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file that was rewritten with a backup."""
    path = tmp_path / "train.yml"
    path.write_text(OLD)
    path.chmod(0o604)
    rewritten(path)
    return path


def rewritten(path: Path, after: str = NEW) -> None:
    change = Rewrite(path=str(path), before=path.read_text(), after=after)
    commit([change], backup=True, verify=lambda: None, journal=Path(f"{path}.undo"))


def contents(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_all_files_of_a_job_are_as_they_were(tmp_path: Path) -> None:
    project = tmp_path / "neurogen"
    shutil.copytree(NEUROGEN, project)
    before = contents(project)
    plan = fit(read(project), profiles.target("gtx1650"), estimator=estimate)
    changed = {edit.path for edit in plan.edits}
    apply(read(project), plan, backup=True)
    assert contents(project) != before
    undone = undo(project)
    assert undone.written
    assert {item.path for item in undone.files} == changed
    assert contents(project) == before


def test_mode_and_symbolic_link_stay(tmp_path: Path, config: Path) -> None:
    undo(config)
    assert stat.S_IMODE(config.stat().st_mode) == 0o604
    link = tmp_path / "link.yml"
    link.symlink_to("train.yml")
    rewritten(link)
    assert config.read_text() == NEW
    undo(link)
    assert os.readlink(link) == "train.yml"
    assert config.read_text() == OLD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.yml", "train.yml"]


def test_a_dry_run_shows_the_way_back_and_goes_nowhere(tmp_path: Path, config: Path) -> None:
    before = contents(tmp_path)
    undone = undo(config, dry_run=True)
    assert not undone.written
    assert "-batch: 4\n+batch: 8\n" in undone.diff
    assert contents(tmp_path) == before


def test_an_original_that_was_there_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "train.yml"
    path.write_text(OLD)
    (tmp_path / "train.yml.orig").write_text(OLD)
    rewritten(path)
    undo(path)
    assert contents(tmp_path) == {"train.yml": OLD.encode(), "train.yml.orig": OLD.encode()}


def test_there_is_nothing_to_undo_twice(config: Path) -> None:
    undo(config)
    with pytest.raises(FileAccessError, match="nothing to undo"):
        undo(config)


def test_a_folder_that_was_moved_is_undone_where_it_is(tmp_path: Path, config: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in [*tmp_path.glob("train.*")]:
        path.rename(moved / path.name)
    undo(moved / "train.yml")
    assert contents(moved) == {"train.yml": OLD.encode()}


@pytest.mark.parametrize(
    ("now", "line", "message"),
    [
        ("# head\nbatch: 2\n", 2, "line 2 differs: memplan wrote 'batch: 4' there"),
        ("# head\nbatch: 4\nmore: 1\n", 3, "line 3 differs: it is new"),
        ("# head\n", 2, "line 2 differs: memplan wrote 'batch: 4' there"),
        ("# head\r\nbatch: 4\r\n", 3, "its line ends differ"),
    ],
)
def test_a_file_that_was_changed_since_is_left_alone_and_the_change_is_named(
    tmp_path: Path, config: Path, now: str, line: int, message: str
) -> None:
    config.write_bytes(now.encode())
    before = contents(tmp_path)
    with pytest.raises(StaleError) as caught:
        undo(config)
    assert message in caught.value.message
    assert caught.value.location is not None
    assert caught.value.location.line == line
    assert "train.yml.orig" in (caught.value.hint or "")
    assert contents(tmp_path) == before


def test_an_original_that_was_changed_is_not_put_back(tmp_path: Path, config: Path) -> None:
    (tmp_path / "train.yml.orig").write_text("batch: 16\n")
    with pytest.raises(StaleError, match="not the original"):
        undo(config)
    (tmp_path / "train.yml.orig").unlink()
    with pytest.raises(FileAccessError, match="does not exist"):
        undo(config)
    assert config.read_text() == NEW


def test_a_file_that_is_as_before_already_is_no_change(config: Path) -> None:
    config.write_text(OLD)
    assert undo(config).files == ()


def journal_with(change: dict[str, Any]) -> str:
    entry = {"path": "train.yml", "original": "train.yml.orig", "made": True, "before": "", "after": ""}
    entry |= {"start": 0, "end": 0, "text": ""}
    return json.dumps({"schema": "memplan.journal/1", "files": [entry | change]})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": "memplan.journal/2", "files": []}',
        '{"schema": "memplan.journal/1", "files": [1]}',
        '{"schema": "memplan.journal/1", "files": [{}]}',
        journal_with({"original": "../secret.orig"}),
        journal_with({"original": "other.orig"}),
        journal_with({"path": "../x.yml"}),
        journal_with({"made": 1}),
        journal_with({"start": 2}),
        journal_with({"more": 1}),
    ],
)
def test_a_journal_that_memplan_did_not_write_moves_nothing(tmp_path: Path, config: Path, text: str) -> None:
    Path(f"{config}.undo").write_text(text)
    before = contents(tmp_path)
    with pytest.raises(InputError):
        undo(config)
    assert contents(tmp_path) == before


def test_the_command_restores_and_says_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apply", "--undo", str(config), "--diff"]) == 0
    assert "+batch: 8" in capsys.readouterr().out
    assert main(["apply", str(config), "--undo", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["written"]) == ("memplan.undo/1", True)
    assert [item["path"] for item in found["files"]] == [str(config)]
    assert config.read_text() == OLD
    assert main(["apply", "--undo", str(config)]) == 2
    assert "nothing to undo" in capsys.readouterr().err


def test_the_command_takes_nothing_that_an_undo_does_not_need(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["apply", "--undo"]) == 2
    assert main(["apply", "--undo", str(config), "--gpu", "t4", "--backup"]) == 2
    assert "leave out --gpu, --backup" in capsys.readouterr().err.replace("\n", " ")
    assert config.read_text() == NEW
