from __future__ import annotations

from pathlib import Path

import pytest

from memplan.fit import walk


def made(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("base_model: x\n", encoding="utf-8")


def found(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in walk.files(folder)]


def test_files_are_found_at_any_depth_in_the_order_of_their_paths(tmp_path: Path) -> None:
    made(tmp_path, "b.yml", "a/z.yaml", "a/b/c.json", "a-b.toml", "B.YAML")
    assert found(tmp_path) == ["B.YAML", "a/b/c.json", "a/z.yaml", "a-b.toml", "b.yml"]


def test_other_kinds_of_files_and_hidden_ones_are_left_alone(tmp_path: Path) -> None:
    made(tmp_path, "train.py", "notes.md", ".hidden.yml", "yml")
    assert found(tmp_path) == []


def test_folders_of_other_peoples_files_are_not_entered(tmp_path: Path) -> None:
    made(tmp_path, ".git/a.yml", "node_modules/a.yml", "venv/a.yml", "x/site-packages/a.yml", "wandb/a.yml")
    made(tmp_path, "environment/pyvenv.cfg", "environment/lib/a.yml", "kept/a.yml")
    assert found(tmp_path) == ["kept/a.yml"]


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    made(tmp_path, "a/c.yml")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "link.yml").symlink_to(tmp_path / "a/c.yml")
    assert found(tmp_path) == ["a/c.yml", "link.yml"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.yml", "base_model: x\n", True),
        ("a.yml", "colour: green\n", False),
        ("a.json", '\ufeff\n {"base_model": 1}', True),
        ("a.json", '[{"base_model": 1}]', False),
        ("memplan.yaml", "colour: green\n", True),
        ("a.yml", "base_model: x\n" + "#" * walk.LARGEST_CONFIG, False),
    ],
)
def test_only_what_shows_a_mark_of_some_format_is_worth_parsing(
    name: str, text: str, expected: bool, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert walk.may_be_config(path) is expected


def test_what_cannot_be_opened_is_for_the_reader_to_complain_of(tmp_path: Path) -> None:
    assert walk.may_be_config(tmp_path / "gone.yml")


def test_launchers_configs_and_adapters_lie_beside_a_config(tmp_path: Path) -> None:
    made(tmp_path, "train.yml")
    assert list(walk.companions(tmp_path)) == []
    (tmp_path / "accelerate.yaml").write_text("distributed_type: FSDP\n", encoding="utf-8")
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert [path.name for path in walk.companions(tmp_path)] == ["accelerate.yaml", "adapter_config.json"]
