"""Writing plans: exactly the planned values, in all files or in none."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from memplan import profiles
from memplan.apply import apply, plan_file
from memplan.domain.edit import Advice
from memplan.domain.errors import (
    DocumentError,
    EditRefusedError,
    FieldError,
    FileAccessError,
    StaleError,
)
from memplan.domain.plan import Plan
from memplan.fit import fit
from memplan.read import read
from tests.planning import CONFIG, MODEL, UNCOUNTED, estimate, target

NEUROGEN = Path(__file__).resolve().parents[2] / "examples" / "neurogen"
CHANGED = {
    "train_slimpajama.py",
    "train_advanced.py",
    "src/python/neurogen_bindings.cpp",
    "src/modules/BrainOrchestrator.cpp",
}
LIMIT = 1500


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the NeuroGen example."""
    copy = tmp_path / "neurogen"
    shutil.copytree(NEUROGEN, copy)
    return copy


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A native config of the tests' model."""
    monkeypatch.setattr("memplan.read.Known.architecture", lambda self, config, where: MODEL)
    path = tmp_path / "train.yaml"
    path.write_bytes(CONFIG.encode())
    return path


def planned(path: Path) -> Plan:
    where = profiles.target("gtx1650") if path.is_dir() else target(LIMIT)
    return fit(read(path), where, estimator=estimate, keep=UNCOUNTED)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_exactly_the_files_with_planned_values_change(project: Path) -> None:
    before = contents(project)
    applied = apply(read(project), planned(project))
    after = contents(project)
    assert applied.written
    assert {name for name in after if after[name] != before.get(name)} == CHANGED
    assert after.keys() == before.keys()


def test_every_byte_outside_the_planned_values_stays(project: Path) -> None:
    plan = planned(project)
    originals = {edit.path: Path(edit.path).read_text() for edit in plan.edits}
    apply(read(project), plan)
    for path, original in originals.items():
        expected, at = "", 0
        for edit in sorted((edit for edit in plan.edits if edit.path == path), key=lambda edit: edit.span):
            assert original[edit.span.start : edit.span.end] == edit.before
            expected += original[at : edit.span.start] + edit.after
            at = edit.span.end
        assert Path(path).read_text() == expected + original[at:]


def test_reading_the_rewrite_gives_the_planned_workload(project: Path) -> None:
    plan = planned(project)
    apply(read(project), plan)
    assert read(project).workload == plan.after.workload


def test_planning_and_applying_again_changes_nothing(project: Path) -> None:
    apply(read(project), planned(project))
    before = contents(project)
    applied = apply(read(project), planned(project))
    assert not applied.written
    assert applied.files == ()
    assert contents(project) == before


def test_applying_the_same_plan_again_changes_nothing(project: Path) -> None:
    reading, plan = read(project), planned(project)
    apply(reading, plan)
    before = contents(project)
    assert not apply(reading, plan).written
    assert contents(project) == before


def test_a_dry_run_shows_the_diff_and_writes_nothing(project: Path) -> None:
    before = contents(project)
    applied = apply(read(project), planned(project), dry_run=True, backup=True)
    assert not applied.written
    assert contents(project) == before
    assert len(applied.files) == 4
    assert "-    embedding_dim: int = 2048" in applied.diff
    assert "+    embedding_dim: int = 768" in applied.diff


def test_a_file_that_changed_since_the_plan_is_refused(project: Path) -> None:
    reading, plan = read(project), planned(project)
    source = project / "train_advanced.py"
    source.write_text(source.read_text() + "\n# a note\n")
    before = contents(project)
    with pytest.raises(StaleError, match=r"train_advanced\.py"):
        apply(reading, plan)
    assert contents(project) == before


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", None])
def test_a_file_that_was_damaged_or_removed_is_refused_as_stale(project: Path, damage: bytes | None) -> None:
    reading, plan = read(project), planned(project)
    source = project / "src/python/neurogen_bindings.cpp"
    source.unlink() if damage is None else source.write_bytes(damage)
    with pytest.raises(StaleError, match=r"neurogen_bindings\.cpp"):
        apply(reading, plan)


def test_a_change_between_reading_and_renaming_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, plan = read(project), planned(project)
    source = project / "train_advanced.py"
    import memplan.apply.transaction as transaction

    staging = transaction._beside

    def staged(real: Path, text: str, temporary: list[Path]) -> Path:
        source.write_bytes(b"# changed behind our back\n")
        return staging(real, text, temporary)

    monkeypatch.setattr(transaction, "_beside", staged)
    with pytest.raises(StaleError, match=r"train_advanced\.py"):
        apply(reading, plan)
    assert source.read_bytes() == b"# changed behind our back\n"
    assert (project / "train_slimpajama.py").read_bytes() == (NEUROGEN / "train_slimpajama.py").read_bytes()


@pytest.mark.parametrize("fail_at", range(4))
def test_a_failure_during_the_renames_restores_every_file(
    project: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    before = contents(project)
    reading, plan = read(project), planned(project)
    monkeypatch.setattr(os, "replace", _failing_once(os.replace, fail_at))
    with pytest.raises(FileAccessError, match="as they were"):
        apply(reading, plan, backup=True)
    assert contents(project) == before


def _failing_once(real: Callable[..., None], fail_at: int) -> Callable[..., None]:
    calls = 0

    def replace(source: object, destination: object) -> None:
        nonlocal calls
        calls += 1
        if calls == fail_at + 1:
            raise OSError(28, "No space left on device", str(destination))
        real(source, destination)

    return replace


def test_an_interrupt_during_the_renames_restores_every_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(project)
    reading, plan = read(project), planned(project)
    calls: list[object] = []
    real = os.replace

    def interrupted(source: str, destination: str) -> None:
        calls.append(source)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(source, destination)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        apply(reading, plan)
    assert contents(project) == before


def test_a_full_disk_while_staging_leaves_everything(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(project)
    reading, plan = read(project), planned(project)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileAccessError, match="no space left"):
        apply(reading, plan)
    assert contents(project) == before


def test_a_rewrite_that_would_not_read_as_planned_is_refused_before_writing(project: Path) -> None:
    before = contents(project)
    reading, plan = read(project), planned(project)
    wrong = replace(plan, edits=tuple(replace(edit, replacement="7") for edit in plan.edits))
    with pytest.raises(EditRefusedError, match="does not read as planned"):
        apply(reading, wrong)
    assert contents(project) == before


def test_a_rewrite_that_reads_wrong_from_disk_is_undone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(project)
    reading, plan = read(project), planned(project)
    from memplan import read as reader

    real = reader.reread
    monkeypatch.setattr(reader, "reread", lambda known, texts=None: real(known, texts) if texts else known)
    with pytest.raises(EditRefusedError, match="does not read as planned"):
        apply(reading, plan)
    assert contents(project) == before


def test_originals_are_kept_beside_their_files(project: Path) -> None:
    before = contents(project)
    applied = apply(read(project), planned(project), backup=True)
    after = contents(project)
    assert {name for name in after if name.endswith(".orig")} == {f"{name}.orig" for name in CHANGED}
    assert all(after[f"{name}.orig"] == before[name] for name in CHANGED)
    assert sorted(change.backup or "" for change in applied.files) == sorted(
        str(project / f"{name}.orig") for name in CHANGED
    )


def test_a_backup_never_overwrites_another_file(project: Path) -> None:
    (project / "train_advanced.py.orig").write_bytes(b"mine")
    before = contents(project)
    with pytest.raises(FileAccessError, match=r"train_advanced\.py\.orig"):
        apply(read(project), planned(project), backup=True)
    assert contents(project) == before


def test_a_backup_that_is_there_already_and_equal_is_fine(project: Path) -> None:
    original = (project / "train_advanced.py").read_bytes()
    (project / "train_advanced.py.orig").write_bytes(original)
    assert apply(read(project), planned(project), backup=True).written


def test_a_read_only_file_is_refused_before_anything_is_written(project: Path) -> None:
    (project / "src/python/neurogen_bindings.cpp").chmod(0o444)
    before = contents(project)
    with pytest.raises(FileAccessError, match="read-only"):
        apply(read(project), planned(project))
    assert contents(project) == before


def test_a_read_only_folder_is_refused_before_anything_is_written(project: Path) -> None:
    folder = project / "src/python"
    folder.chmod(0o555)
    before = contents(project)
    try:
        with pytest.raises(FileAccessError, match="read-only"):
            apply(read(project), planned(project))
        assert contents(project) == before
    finally:
        folder.chmod(0o755)


def test_the_mode_of_a_file_is_kept(project: Path) -> None:
    script = project / "train_slimpajama.py"
    script.chmod(0o751)
    apply(read(project), planned(project))
    assert stat.S_IMODE(script.stat().st_mode) == 0o751


def test_a_symbolic_link_stays_a_link_and_its_file_is_rewritten(config: Path, tmp_path: Path) -> None:
    real = tmp_path / "real" / "settings.yaml"
    real.parent.mkdir()
    config.rename(real)
    config.symlink_to(Path("real/settings.yaml"))
    assert apply(read(config), planned(config)).written
    assert config.is_symlink()
    assert os.readlink(config) == "real/settings.yaml"
    assert b"micro: 1" in real.read_bytes()


@pytest.mark.parametrize("style", ["crlf", "bom", "no final newline"])
def test_line_endings_and_marks_of_a_file_stay(config: Path, style: str) -> None:
    original = {
        "crlf": CONFIG.replace("\n", "\r\n"),
        "bom": "\ufeff" + CONFIG,
        "no final newline": CONFIG.rstrip("\n"),
    }[style].encode()
    config.write_bytes(original)
    apply(read(config), planned(config))
    written = config.read_bytes()
    assert written != original
    assert (
        written.replace(b"micro: 1,", b"micro: 8,").replace(b"accumulation: 16", b"accumulation: 2")
        == original
    )


def test_the_result_names_digests_of_both_texts(config: Path) -> None:
    old = sha256(config.read_bytes()).hexdigest()
    (change,) = apply(read(config), planned(config)).files
    assert change.old_sha256 == old
    assert change.new_sha256 == sha256(config.read_bytes()).hexdigest()


def test_a_plan_that_does_not_fit_is_not_written(config: Path) -> None:
    plan = fit(read(config), target(300), estimator=estimate)
    with pytest.raises(EditRefusedError, match="does not fit"):
        apply(read(config), plan)
    assert config.read_text() == CONFIG


def test_a_plan_of_which_a_part_cannot_be_written_is_not_written_at_all(config: Path) -> None:
    text = CONFIG.replace("micro: 8", "micro: &m 8").replace("length: 2048", "length: 2048, x: *m")
    text = text.replace(", x: *m", "") + "generate: {new_tokens: *m}\n"
    config.write_text(text)
    with pytest.raises(EditRefusedError, match=r"batch\.micro"):
        apply(read(config), planned(config))
    assert config.read_text() == text


def test_every_piece_of_advice_is_given(config: Path) -> None:
    plan = replace(
        planned(config),
        advice=(
            Advice(field="a", message="set a by hand", path="x.yml", line=3),
            Advice(field="b", message="set b by hand"),
        ),
    )
    with pytest.raises(EditRefusedError) as caught:
        apply(read(config), plan)
    assert "set a by hand" in str(caught.value)
    assert "set b by hand" in str(caught.value)
    assert str(caught.value.location) == "x.yml:3:1"


# The checklist


def test_the_checklist_has_every_place_and_the_rebuild(project: Path) -> None:
    made = apply(read(project), planned(project)).checklist
    assert any(line.endswith("2048 → 768") and "train_slimpajama.py:" in line for line in made.lines)
    assert {Path(name).name for name in made.rebuild} == {"neurogen_bindings.cpp", "BrainOrchestrator.cpp"}
    assert made.notes == ("C++ sources changed: rebuild before running",)
    assert made.verify == f"memplan check {project}"


def test_without_compiled_sources_nothing_is_to_be_rebuilt(config: Path) -> None:
    made = apply(read(config), planned(config)).checklist
    assert made.rebuild == ()
    assert made.notes == ()
    assert made.verify == f"memplan check {config} --gpu {target(LIMIT).name}"


def test_the_command_to_verify_can_be_pasted_into_a_shell(config: Path, tmp_path: Path) -> None:
    odd = tmp_path / "my config; rm.yaml"
    config.rename(odd)
    assert f"'{odd}'" in apply(read(odd), planned(odd)).checklist.verify


def test_an_inserted_key_is_listed_as_added(config: Path) -> None:
    config.write_text(CONFIG.replace("checkpointing: none\n", ""))
    plan = fit(read(config), target(LIMIT), keep=["batch"], estimator=estimate)
    small = fit(read(config), target(6700), keep=["batch"], estimator=estimate)
    assert not plan.feasible
    assert small.feasible
    made = apply(read(config), small).checklist
    assert any("added checkpointing: " in line for line in made.lines)


# Plan files


def test_a_saved_plan_leads_to_the_same_rewrite(project: Path, tmp_path: Path) -> None:
    saved = tmp_path / "plan.yaml"
    reading, plan = read(project), planned(project)
    plan_file.write(reading, plan, saved)
    loaded = plan_file.load(saved)
    restored = loaded.plan(read(loaded.source), profiles.target(loaded.gpu), estimate)
    assert restored.changes == plan.changes
    assert set(restored.edits) == set(plan.edits)
    assert restored.feasible
    assert apply(read(project), restored).written


def test_language_model_changes_survive_the_plan_file(config: Path, tmp_path: Path) -> None:
    from memplan.domain.harm import Harm

    saved = tmp_path / "sub" / "plan.yaml"
    saved.parent.mkdir()
    reading = read(config)
    plan = fit(reading, target(400), allow=Harm.BEHAVIOUR, estimator=estimate)
    assert "adapter" in {change.field for change in plan.changes}
    plan_file.write(reading, plan, saved)
    assert plan_file.load(saved).plan(reading, target(400), estimate).changes == plan.changes


def test_a_saved_plan_is_refused_once_a_file_changed(project: Path, tmp_path: Path) -> None:
    saved = tmp_path / "plan.yaml"
    plan_file.write(read(project), planned(project), saved)
    with (project / "train_advanced.py").open("a") as stream:
        stream.write("# more\n")
    with pytest.raises(StaleError, match=r"train_advanced\.py"):
        plan_file.load(saved).plan(read(project), profiles.target("gtx1650"), estimate)


def test_a_saved_plan_that_was_applied_has_nothing_left_to_do(project: Path, tmp_path: Path) -> None:
    saved = tmp_path / "plan.yaml"
    reading, plan = read(project), planned(project)
    plan_file.write(reading, plan, saved)
    apply(reading, plan)
    again = plan_file.load(saved).plan(read(project), profiles.target("gtx1650"), estimate)
    assert again.changes == ()
    assert again.feasible


@pytest.mark.parametrize(
    ("old", "new", "section"),
    [
        ("after: 8192", "after: 16384", "changes"),
        ("after: '8192'", "after: '16384'", "edits"),
        ("harm: behaviour", "harm: exact", "changes"),
        ("gpu: gtx1650", "gpu: rtx3090", "gpu"),
        ("dialect: manifest", "dialect: native", "dialect"),
    ],
)
def test_an_edited_plan_is_refused_saying_what_was_edited(
    project: Path, tmp_path: Path, old: str, new: str, section: str
) -> None:
    saved = tmp_path / "plan.yaml"
    plan_file.write(read(project), planned(project), saved)
    text = saved.read_text()
    assert old in text
    saved.write_text(text.replace(old, new, 1))
    with pytest.raises(StaleError, match=f"its {section} differs"):
        plan_file.load(saved)


@pytest.mark.parametrize("text", ["a: 1\n", "[]\n", "schema: memplan.plan-file/1\n", "schema: [\n", ""])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises((DocumentError, FieldError)):
        plan_file.load(path)


def test_a_plan_that_cannot_be_saved_says_so(config: Path, tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="cannot be written"):
        plan_file.write(read(config), planned(config), tmp_path / "nowhere" / "plan.yaml")


def test_a_folder_with_config_and_plan_can_be_moved(project: Path, tmp_path: Path) -> None:
    plan_file.write(read(project), planned(project), project / "plan.yaml")
    moved = tmp_path / "elsewhere"
    project.rename(moved)
    loaded = plan_file.load(moved / "plan.yaml")
    assert loaded.source == moved
    assert loaded.plan(read(loaded.source), profiles.target("gtx1650"), estimate).changes


def test_a_full_disk_leaves_the_plan_that_was_there_and_nothing_else(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plans"
    folder.mkdir()
    saved = folder / "plan.yaml"
    plan_file.write(read(project), planned(project), saved)
    before = saved.read_bytes()

    def full(path: Path, *_: object, **__: object) -> int:
        path.write_bytes(b"# half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(FileAccessError, match="no space left"):
        plan_file.write(read(project), planned(project), saved)
    assert contents(folder) == {"plan.yaml": before}
