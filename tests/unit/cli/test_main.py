from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from memplan import __version__
from memplan.cli import main

ROOT = Path(__file__).resolve().parents[3]


def console(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memplan", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"memplan {__version__}\n"


def test_help_lists_every_command_in_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "estimate" in text
    assert "─" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "arguments",
    [["estimat"], ["estimate"], ["estimate", "x.yml", "--format", "pdf"], ["gpus", "show"], ["--nonsense"]],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_with_2_and_says_why(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "rror" in captured.err


def test_bad_input_exits_with_2_and_offers_the_nearest_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus", "show", "rtx309"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: no GPU is called 'rtx309'")
    assert "rtx3090" in captured.err


def test_a_missing_config_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(tmp_path / "absent.yml")]) == 2
    assert "absent.yml" in capsys.readouterr().err


def test_a_defect_is_one_line_and_never_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.delenv("MEMPLAN_TRACEBACK", raising=False)
    monkeypatch.setattr("memplan.profiles.gpus", broken)
    assert main(["gpus"]) == 70
    error = capsys.readouterr().err
    assert error.startswith("this is a defect in memplan: RuntimeError: two lines\n")
    assert "Traceback" not in error
    assert "MEMPLAN_TRACEBACK=1" in error


def test_the_traceback_of_a_defect_is_there_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("cause")

    monkeypatch.setenv("MEMPLAN_TRACEBACK", "1")
    monkeypatch.setattr("memplan.profiles.gpus", broken)
    assert main(["gpus"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("memplan.profiles.gpus", interrupted)
    assert main(["gpus"]) == 130


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "memplan", "gpus"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_output_is_said() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "memplan", "gpus"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        2,
        "error: the report cannot be written: no space left on device\n",
    )


def test_a_terminal_that_only_knows_ascii_gets_escapes_instead_of_a_crash() -> None:
    done = console("gpus", "show", "nöpe→", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 2
    assert "\\u2192" in done.stderr


def test_python_m_memplan_is_the_command() -> None:
    done = console("--version")
    assert (done.returncode, done.stdout) == (0, f"memplan {__version__}\n")
