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

from benchmarks import peers_cases, truth_cases
from benchmarks.peers_cases import Case
from benchmarks.peers_results import Result, ask
from benchmarks.peers_tables import markdown, quoted, text
from benchmarks.peers_tools import TOOLS, Tool, install
from benchmarks.truth_facts import ALLOCATED

README = Path(__file__).resolve().parent.parent / "README.md"


def main(arguments: Sequence[str]) -> int:
    """Print the tables or write them to the README."""
    parser = argparse.ArgumentParser(description="Published measurements through several estimators.")
    parser.add_argument("--update", action="store_true", help="write the README's tables")
    options = parser.parse_args(arguments)
    cases = covered()
    results = [_result(tool, cases) for tool in TOOLS]
    if options.update:
        content = README.read_text(encoding="utf-8")
        README.write_text(quoted(content, markdown(results, date.today())), encoding="utf-8")
    else:
        sys.stdout.write(text(results, date.today()))
    return 0


def covered() -> list[Case]:
    """The rows of one GPU whose peak of tensors was measured."""
    measured = [row for row in truth_cases.load() if row.operator is None and ALLOCATED in row.measured]
    return [peers_cases.of(row) for row in measured if row.workload.world.data_parallel == 1]


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
