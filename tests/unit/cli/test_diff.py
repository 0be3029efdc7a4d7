"""``memplan diff`` as a command: two files, or revisions of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from memplan.cli import main

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

CONFIG = """memplan: 1
model: {{path: model}}
batch: {{micro: {micro}}}
sequence: {{length: 64}}
"""
MODEL = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 1000,
}


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def write(folder: Path, micro: int, layers: int = 2) -> None:
    (folder / "model").mkdir(parents=True, exist_ok=True)
    model = json.dumps(MODEL | {"num_hidden_layers": layers})
    (folder / "model" / "config.json").write_text(model, encoding="utf-8")
    (folder / "train.yaml").write_text(CONFIG.format(micro=micro), encoding="utf-8")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits in a folder of a repository, a change that is not committed, and a temporary folder."""
    root = tmp_path / "work"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    write(root / "runs", micro=1)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "one")
    write(root / "runs", micro=2, layers=3)
    git(root, "commit", "--quiet", "-am", "two")
    write(root / "runs", micro=4, layers=3)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(root / "runs")
    return root


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["diff", *arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def changes(found: Any) -> dict[str, Any]:
    """What differs: before and after, or of a model the notes."""
    items = [item for part in found["changes"] for item in part["fields"]]
    return {item["field"]: item["notes"] or (item["before"], item["after"]) for item in items}


def test_a_revision_is_read_with_the_files_it_had(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = changes(told(capsys, "train.yaml@HEAD~1", "train.yaml@HEAD"))
    assert found == {"batch.micro": (1, 2), "model": ["num_hidden_layers 2 → 3"]}


def test_one_revision_alone_is_compared_with_the_file_as_it_is(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert changes(told(capsys, "train.yaml@main")) == {"batch.micro": (2, 4)}


@pytest.mark.parametrize("stand", ["runs", ".", "..", "runs/model"])
def test_it_does_not_matter_where_one_stands(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stand: str
) -> None:
    monkeypatch.chdir(repository / stand)
    for path in (
        str(repository / "runs" / "train.yaml"),
        os.path.relpath(repository / "runs" / "train.yaml"),
    ):
        assert changes(told(capsys, f"{path}@HEAD")) == {"batch.micro": (2, 4)}


def test_nothing_is_left_behind_and_nothing_is_checked_out(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def state() -> list[tuple[str, bytes]]:
        return [
            (str(path), path.read_bytes() if path.is_file() else b"")
            for path in sorted(repository.rglob("*"))
        ]

    before, stand = state(), Path.cwd()
    told(capsys, "train.yaml@HEAD~1", "train.yaml@HEAD")
    assert main(["diff", "nowhere.yaml@HEAD", "train.yaml"]) == 2
    assert state() == before
    assert Path.cwd() == stand
    assert list((repository.parent / "temporary").iterdir()) == []


def test_hooks_filters_and_monitors_of_a_repository_are_not_run(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trap, proof = repository.parent / "trap.sh", repository.parent / "proof"
    trap.write_text(f"#!/bin/sh\ntouch {proof}\ncat\n", encoding="utf-8")
    trap.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "core.pager",
        "diff.trap.textconv",
        "filter.trap.smudge",
        "filter.trap.clean",
    ):
        git(repository, "config", key, str(trap))
    (repository / ".git" / "info").mkdir(exist_ok=True)
    (repository / ".git" / "info" / "attributes").write_text("* diff=trap filter=trap\n", encoding="utf-8")
    told(capsys, "train.yaml@HEAD~1", "train.yaml@HEAD")
    assert not proof.exists()


def test_a_model_that_git_ignores_is_taken_as_it_is_and_said_so(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(repository, "rm", "--quiet", "-r", "--cached", "runs/model")
    (repository / ".gitignore").write_text("model/\n", encoding="utf-8")
    git(repository, "add", ".gitignore")
    git(repository, "commit", "--quiet", "-m", "three")
    assert main(["diff", "train.yaml@HEAD"]) == 0
    assert "not in git, so as it is now: model/config.json" in capsys.readouterr().out


def test_a_config_that_is_not_in_the_revision_is_not_taken_from_today(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("train.yaml", "new.yaml")
    assert main(["diff", "new.yaml@HEAD"]) == 2
    assert "at HEAD: new.yaml does not exist" in capsys.readouterr().err


def test_links_that_lead_out_of_a_commit_are_left_out(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("train.yaml", repository.parent / "secret.yaml")
    Path("linked.yaml").symlink_to("../../secret.yaml")
    Path("inside.yaml").symlink_to("train.yaml")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "links")
    assert main(["diff", "linked.yaml@HEAD"]) == 2
    assert main(["diff", "inside.yaml@HEAD", "train.yaml"]) == 0


def test_folders_may_be_compared_too(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert changes(told(capsys, "model@HEAD~1", "model")) == {"model": ["num_hidden_layers 2 → 3"]}


def test_the_report_says_what_grew_where_and_whether_it_fits(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", "train.yaml@HEAD", "--gpu", "t4"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("train.yaml@HEAD → train.yaml on t4: ")
    assert "train.yaml@HEAD:3 → train.yaml:3" in text
    assert "GPU, whole process" in text
    assert main(["diff", "train.yaml@HEAD~1"]) == 0
    assert "llama, 0.584 million" in capsys.readouterr().out
    assert "fits" in text
    assert main(["diff", "train.yaml@HEAD", "--format", "markdown"]) == 0
    assert "| setting |" in capsys.readouterr().out


def test_growth_fails_only_where_that_is_asked_for(repository: Path) -> None:
    assert main(["diff", "train.yaml@HEAD~1", "train.yaml@HEAD"]) == 0
    assert main(["diff", "train.yaml@HEAD~1", "train.yaml@HEAD", "--fail-if-grows"]) == 1
    assert main(["diff", "train.yaml@HEAD", "train.yaml@HEAD~1", "--fail-if-grows"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.yaml"], "or one as PATH@REVISION"),
        (["train.yaml@HEAD~9"], "git knows no revision 'HEAD~9'"),
        (["train.yaml@"], "git knows no revision ''"),
        (["train.yaml@--output=x"], "git knows no revision"),
        (["nowhere.yaml", "train.yaml"], "nowhere.yaml does not exist"),
        (["/@HEAD", "train.yaml"], "in no git work tree"),
    ],
)
def test_what_cannot_be_compared_exits_with_2(
    repository: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["diff", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_fault_of_a_revision_is_told_with_it(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("train.yaml").write_text("memplan: 1\nbatch: {micro: none}\n", encoding="utf-8")
    git(repository, "commit", "--quiet", "-am", "broken")
    write(repository / "runs", micro=4, layers=3)
    assert main(["diff", "train.yaml@HEAD"]) == 2
    assert "at HEAD: " in capsys.readouterr().err


def test_a_name_with_an_at_sign_is_a_name(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("train.yaml", "train@home.yaml")
    assert changes(told(capsys, "train@home.yaml", "train.yaml")) == {}
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "home")
    assert changes(told(capsys, "train@home.yaml@HEAD")) == {}
    assert changes(told(capsys, "train.yaml@HEAD@{0}")) == {}


def test_within_a_hook_the_repository_is_that_of_the_file(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", ".git")
    monkeypatch.setenv("GIT_INDEX_FILE", ".git/index")
    assert changes(told(capsys, "train.yaml@HEAD")) == {"batch.micro": (2, 4)}


def test_values_in_programs_are_those_of_the_revision(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = (
        "memplan: 1\nmodel:\n  tensors: {table: {shape: [rows, 1024], dtype: fp32}}\n"
        "  values: {rows: {file: src/train.py, key: ROWS}}\n"
    )
    project = repository / "project"
    (project / "src").mkdir(parents=True)
    (project / "memplan.yaml").write_text(manifest, encoding="utf-8")
    (project / "src" / "train.py").write_text("ROWS = 8\n", encoding="utf-8")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "project")
    (project / "src" / "train.py").write_text("ROWS = 16\n", encoding="utf-8")
    assert changes(told(capsys, "../project@HEAD")) == {"rows": (8, 16)}
    assert changes(told(capsys, "../project/memplan.yaml@HEAD")) == {"rows": (8, 16)}


def test_without_git_it_is_said_so(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert main(["diff", "train.yaml@HEAD"]) == 2
    assert "git is not installed" in capsys.readouterr().err
