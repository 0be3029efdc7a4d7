"""The examples as console transcripts, and the places where the README quotes them.

``command.txt`` of a case lists commands, ``expected.txt`` holds what they print. Between
``<!-- example CASE: COMMAND -->`` and ``<!-- /example -->`` the README quotes one command of one case.

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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
README = ROOT / "README.md"
CASE_FILES = ("command.txt", "expected.txt")

_QUOTE = re.compile(
    r"(<!-- example (?P<case>[\w.-]+): (?P<command>[^\n]+?) -->\n).*?(<!-- /example -->)", re.DOTALL
)


def cases() -> list[Path]:
    """The folders under ``examples`` that are cases."""
    return sorted(path.parent for path in EXAMPLES.glob("*/command.txt"))


def commands(case: Path) -> list[str]:
    """The commands of a case, in order; ``#`` starts a comment."""
    lines = (case / "command.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def transcript(case: Path, work: Path) -> str:
    """Run a case in a copy under ``work`` and write down what a person at a console would see."""
    copy = work / "examples" / case.name
    shutil.copytree(case, copy, ignore=shutil.ignore_patterns(*CASE_FILES, "__pycache__"))
    return "\n".join(_step(command, work) for command in commands(case))


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


def _step(command: str, work: Path) -> str:
    program, *rest = shlex.split(command)
    if program != "memplan":
        raise ValueError(f"{command!r} is not a memplan command")
    variables = {key: value for key, value in os.environ.items() if not key.startswith("MEMPLAN_")}
    done = subprocess.run(
        [sys.executable, "-m", "memplan", *rest],
        cwd=work,
        env=variables | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"},
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
