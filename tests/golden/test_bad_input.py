"""Bad input is an error with a place or an honest bound: exit code 2 or 3, nothing written, no traceback."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from memplan.cli import main

MODEL = "model: {ref: meta-llama/Llama-3.2-1B}\n"
HEAD = "memplan: 1\n" + MODEL

CASES: dict[str, tuple[str, bytes]] = {
    "an empty file": ("c.yaml", b""),
    "a binary file": ("c.yaml", bytes(range(256))),
    "malformed YAML": ("c.yaml", b"memplan: 1\nmodel: {ref: [\n"),
    "malformed JSON": ("config.json", b'{"model_type": "llama", }'),
    "an unknown key": ("c.yaml", (HEAD + "bacth: {micro: 1}\n").encode()),
    "a negative number": ("c.yaml", (HEAD + "batch: {micro: -1}\n").encode()),
    "a number beyond reason": ("c.yaml", (HEAD + "sequence: {length: 1e400}\n").encode()),
    "a huge integer": ("c.yaml", (HEAD + f"sequence: {{length: {'9' * 400}}}\n").encode()),
    "a size without a unit": (
        "c.yaml",
        b"memplan: 1\nmodel: {tensors: {t: {bytes: 400}}, values: {}}\n",
    ),
    "a model nobody knows": ("c.yaml", b"memplan: 1\nmodel: {ref: nobody/never}\n"),
    "a list instead of a mapping": ("c.yaml", b"- 1\n- 2\n"),
    "nesting without end": ("config.json", b"[" * 100_000),
    "an unknown GPU": ("c.yaml", (HEAD + "target: {gpu: rtx3091}\n").encode()),
}


@pytest.mark.parametrize("command", ["estimate", "fit", "apply", "explain"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input_is_a_located_error(
    case: tuple[str, bytes],
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, content = case
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    gpu = [] if b"gpu:" in content else ["--gpu", "rtx3090"]
    assert main([command, name, *gpu]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    assert re.search(rf"{re.escape(name)}(:\d+:\d+| )", captured.err)
    assert Path(name).read_bytes() == content
    assert os.listdir() == [name]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_gate_reports_bad_input_as_a_finding(
    case: tuple[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, content = case
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    gpu = [] if b"gpu:" in content else ["--gpu", "rtx3090"]
    assert main(["check", name, *gpu]) == 1
    assert f"{name}:" in capsys.readouterr().out


def test_a_folder_without_configs_says_what_was_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", str(tmp_path)]) == 2
    assert "memplan.yaml" in capsys.readouterr().err


def test_a_missing_unit_on_the_command_line_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus", "show", ""]) == 2
    assert main(["fit", "nowhere.yaml", "--gpu", "24"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_read_only_file_is_refused_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = Path("c.yaml")
    config.write_text(HEAD + "batch: {micro: 64, accumulation: 1}\n", encoding="utf-8")
    config.chmod(0o444)
    before = config.read_bytes()
    assert main(["apply", "c.yaml", "--gpu", "rtx3090"]) == 2
    assert "c.yaml" in capsys.readouterr().err
    assert config.read_bytes() == before


@pytest.mark.parametrize(("newline", "bom"), [("\r\n", ""), ("\n", "\ufeff"), ("\r\n", "\ufeff")])
def test_line_endings_and_byte_order_marks_survive_a_rewrite(
    newline: str, bom: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = bom + (HEAD + "batch: {micro: 64, accumulation: 1}  # big\n").replace("\n", newline)
    Path("real.yaml").write_bytes(text.encode())
    Path("link.yaml").symlink_to("real.yaml")
    assert main(["apply", "link.yaml", "--gpu", "rtx3090"]) == 0
    after = Path("real.yaml").read_bytes().decode()
    assert Path("link.yaml").is_symlink()
    assert after.startswith(bom + "memplan: 1" + newline)
    assert after.endswith("  # big" + newline) or f"  # big{newline}" in after
    assert after.count("\n") == after.count(newline)
    assert "micro: 64" not in after
