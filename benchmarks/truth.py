"""Estimates against memory that other people measured and published: the rows of ``tests/truth/rows``.

python benchmarks/truth.py                      tables
python benchmarks/truth.py --format json        the same for programs; markdown is what the README quotes
python benchmarks/truth.py --update             bring the README's tables and tests/truth/table.txt up to date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import truth_cases
from benchmarks.truth_comparison import Comparison, Report, Spread, report
from benchmarks.truth_tables import as_markdown, as_text, of_suite

README = Path(__file__).resolve().parent.parent / "README.md"
TABLE = README.parent / "tests" / "truth" / "table.txt"
"""The tables as they are printed, kept so that a change of any error shows in a diff."""

_QUOTE = re.compile(r"(<!-- truth -->\n).*?(<!-- /truth -->)", re.DOTALL)


def found() -> Report:
    """All rows, compared."""
    return report(truth_cases.load(), truth_cases.left_out())


def as_json(compared: Report) -> str:
    """Everything, for programs. Sizes are in bytes, errors in percent."""
    content = {
        "schema": "memplan.truth/2",
        "rows": [_json(row) for row in compared.compared],
        "summary": {
            f"{suite}.{metric}": _spread(spread)
            for suite in compared.suites()
            for metric in compared.metrics()
            if (spread := compared.spread(metric, of_suite(suite)))
        },
        "left_out": [{"id": name, "reason": reason} for name, reason in compared.left_out.items()],
    }
    return json.dumps(content, indent=2) + "\n"


def quoted(text: str, tables: str) -> str:
    """The README with its tables replaced."""
    return _QUOTE.sub(lambda match: f"{match[1]}{tables}{match[2]}", text)


FORMATS: dict[str, Callable[[Report], str]] = {"terminal": as_text, "json": as_json, "markdown": as_markdown}


def main(arguments: Sequence[str]) -> int:
    """Print the tables, or write them to where they are kept."""
    parser = argparse.ArgumentParser(description="Estimates against published measurements.")
    parser.add_argument("--format", choices=FORMATS, default="terminal")
    parser.add_argument("--update", action="store_true", help="write the README's tables and table.txt")
    options = parser.parse_args(arguments)
    compared = found()
    if options.update:
        README.write_text(quoted(README.read_text(encoding="utf-8"), as_markdown(compared)), encoding="utf-8")
        TABLE.write_text(as_text(compared), encoding="utf-8")
    else:
        sys.stdout.write(FORMATS[options.format](compared))
    return 0


def _json(row: Comparison) -> dict[str, Any]:
    figures = [
        {"metric": it.metric, "measured": it.measured, "estimated": it.estimated, "error": it.error}
        for it in row.figures
    ]
    facts = {"id": row.case.id, "run": row.case.label, "gpu": row.case.card, "figures": figures}
    return facts | ({"outcome": row.case.outcome, "decision": row.decision} if row.decision else {})


def _spread(spread: Spread) -> dict[str, float]:
    return {"rows": spread.rows, "median": spread.median, "mean": spread.mean, "worst": spread.worst}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
