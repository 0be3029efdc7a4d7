"""The measured rows of ``truth.py`` through other estimators: errors, and CPU time of one estimate.

python benchmarks/peers.py                 tables
python benchmarks/peers.py --update        bring the README's tables up to date

The tools are installed from PyPI the first time, pinned, into environments below the user's cache folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from benchmarks import peers_cases, truth_rows
from benchmarks.peers_cases import Case
from benchmarks.peers_results import Result, ask
from benchmarks.peers_tables import markdown, quoted, text
from benchmarks.peers_tools import TOOLS, Tool, install
from benchmarks.truth_comparison import report

README = Path(__file__).resolve().parent.parent / "README.md"


def main(arguments: Sequence[str]) -> int:
    """Print the tables or write them to the README; 2 when there are no measurements."""
    parser = argparse.ArgumentParser(description="Published measurements through several estimators.")
    parser.add_argument("--update", action="store_true", help="write the README's tables")
    options = parser.parse_args(arguments)
    try:
        cases = covered()
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    results = [_result(tool, cases) for tool in TOOLS]
    if options.update:
        content = README.read_text(encoding="utf-8")
        README.write_text(quoted(content, markdown(results, date.today())), encoding="utf-8")
    else:
        sys.stdout.write(text(results, date.today()))
    return 0


def covered() -> list[Case]:
    """The rows that ``truth.py`` compares, on current releases and on older ones."""
    found = report(truth_rows.load())
    return [peers_cases.of(compared) for compared in (*found.covered, *found.other_stacks)]


def _result(tool: Tool, cases: Sequence[Case]) -> Result:
    try:
        programs = install(tool)
    except subprocess.CalledProcessError as error:
        said = str(error.stderr or "").strip().splitlines() or ["pip failed"]
        return Result(tool=tool, missing=said[-1])
    print(f"asking {tool.name}", file=sys.stderr)
    return ask(tool, programs, cases)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
