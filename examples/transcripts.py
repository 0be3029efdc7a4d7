"""The examples as console transcripts, and the places where the README quotes them.

``command.txt`` of a case lists commands, ``expected.txt`` holds what they print. Between
``<!-- example CASE: COMMAND -->`` and ``<!-- /example -->`` the README quotes one command of one case.

A command behind ``~`` measures something that differs from run to run. In what it prints ``«…»`` stands for
resident memory, times, how often something was looked at, and releases of libraries; what is said of a GPU
of this machine is left out. Nothing else is: allocated bytes and predictions are compared to the last digit.

    python examples/transcripts.py --check     does the README quote what expected.txt says?
    python examples/transcripts.py --update    run every case again, rewrite expected.txt and the README
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
README = ROOT / "README.md"
CASE_FILES = ("command.txt", "expected.txt")

VOLATILE = "~ "
"""In front of a command in ``command.txt``: it measures."""

MASKED = "«…»"

_FIGURES = (
    (re.compile(r"\b\d[\d.]* (?:ms|µs|s)\b"), MASKED),
    (re.compile(r"\b\d[\d.,]* (?:tokens|steps|calls)/s\b"), MASKED),
    (re.compile(r"\blooked (?:once|\d+ times)\b"), f"looked {MASKED}"),
    (re.compile(r"\b(torch|transformers|peft|bitsandbytes) \d[\w.+]*"), rf"\1 {MASKED}"),
)
"""Times, rates, looks and releases, wherever they stand, and what is put there instead."""

_HOST = re.compile(r"\bresident\b|\bRSS\b|\bRAM held\b")
"""What a line is about, or a table by its head, if its sizes are those of resident memory."""

_AMOUNT = re.compile(r"[+-]?\b\d[\d.]* (?:%|(?:B|KiB|MiB|GiB|TiB)\b)")

_OF_THIS_MACHINE = re.compile(r"^  (?:host memory only|the kernel does not say which pages)")

_QUOTE = re.compile(
    r"(<!-- example (?P<case>[\w.-]+): (?P<command>[^\n]+?) -->\n).*?(<!-- /example -->)", re.DOTALL
)


def cases() -> list[Path]:
    """The folders under ``examples`` that are cases."""
    return sorted(path.parent for path in EXAMPLES.glob("*/command.txt"))


def commands(case: Path) -> list[str]:
    """The commands of a case, in order, without the mark of those that measure."""
    return [line.removeprefix(VOLATILE) for line in _lines(case)]


def masked(said: str) -> str:
    """What a command that measures printed, with ``«…»`` where the next run prints something else.

    Tables that hold such a figure have two spaces between columns, since widths differ too.
    """
    blocks = [list(block) for _, block in groupby(said.split("\n"), key=bool)]
    return "\n".join(line for block in blocks for line in _masked(block))


def _masked(block: list[str]) -> list[str]:
    """A table, a list or a line, without empty lines within; or empty lines."""
    lines = [line for line in block if not _OF_THIS_MACHINE.match(line)]
    of_host = bool(lines) and not _AMOUNT.search(lines[0]) and _HOST.search(lines[0]) is not None
    covered = [_covered(line, of_host=of_host or _HOST.search(line) is not None) for line in lines]
    if covered == lines:
        return lines
    return [re.sub(r"(?<=\S) {3,}|^ {3,}", "  ", line) for line in covered]


def _covered(line: str, *, of_host: bool) -> str:
    for figure, instead in _FIGURES:
        line = figure.sub(instead, line)
    return _AMOUNT.sub(MASKED, line) if of_host else line


def transcript(case: Path, work: Path) -> str:
    """Run a case in a copy under ``work`` and write down what a person at a console would see."""
    copy = work / "examples" / case.name
    shutil.copytree(case, copy, ignore=shutil.ignore_patterns(*CASE_FILES, "__pycache__"))
    return "\n".join(_shown(line, work) for line in _lines(case))


def quoted(text: str) -> str:
    """The README with every quotation brought up to date."""

    def refresh(match: re.Match[str]) -> str:
        said = _said(EXAMPLES / match["case"], match["command"])
        return f"{match[1]}```console\n{said}```\n{match[4]}"

    return _QUOTE.sub(refresh, text)


def main(arguments: list[str]) -> int:
    """Check or update; the exit code."""
    if arguments == ["--update"]:
        for case in cases():
            with tempfile.TemporaryDirectory() as work:
                (case / "expected.txt").write_text(transcript(case, Path(work)), encoding="utf-8")
        README.write_text(quoted(README.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    if arguments != ["--check"]:
        print("usage: python examples/transcripts.py --check | --update", file=sys.stderr)
        return 2
    text = README.read_text(encoding="utf-8")
    if quoted(text) == text:
        return 0
    print("README.md does not quote the examples as they are: run make docs", file=sys.stderr)
    return 1


def _lines(case: Path) -> list[str]:
    """The lines of ``command.txt``; ``#`` starts a comment."""
    lines = (case / "command.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _shown(line: str, work: Path) -> str:
    command = line.removeprefix(VOLATILE)
    said = _step(command, work)
    return said if command == line else masked(said)


def _step(command: str, work: Path) -> str:
    program, *rest = shlex.split(command)
    if program != "memplan":
        raise ValueError(f"{command!r} is not a memplan command")
    variables = {key: value for key, value in os.environ.items() if not key.startswith("MEMPLAN_")}
    done = subprocess.run(
        [sys.executable, "-m", "memplan", *rest],
        cwd=work,
        env=variables
        | {
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8",
            "COLUMNS": "100",
            # A python that memplan watch runs is this one, and what smoke measures is recorded nowhere else.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "MEMPLAN_CALIBRATION": str(work / "calibration.yaml"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    ending = f"[exit code {done.returncode}]\n" if done.returncode else ""
    return f"$ {command}\n{done.stdout}{ending}"


def _said(case: Path, command: str) -> str:
    for step in _steps((case / "expected.txt").read_text(encoding="utf-8")):
        if step.startswith(f"$ {command}\n"):
            return step
    raise SystemExit(f"README.md quotes {command!r}, which {case.name}/expected.txt does not have")


def _steps(text: str) -> Iterator[str]:
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ ") and lines:
            yield "".join(lines).rstrip("\n") + "\n"
            lines = []
        lines.append(line)
    yield "".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
