"""Estimates against memory that other people measured and published.

python benchmarks/truth.py                      tables
python benchmarks/truth.py --format json        the same for programs; markdown is what the README quotes
python benchmarks/truth.py --update             bring the README's tables up to date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import truth_rows
from benchmarks.tables import Table, aligned, piped
from benchmarks.truth_comparison import ALLOCATED, MIB, RESERVED, STAGES, Comparison, Figure, Report, report

README = Path(__file__).resolve().parent.parent / "README.md"

_QUOTE = re.compile(r"(<!-- truth -->\n).*?(<!-- /truth -->)", re.DOTALL)

WORDS = {
    "after_load": "allocated after loading",
    "forward_peak": "peak of forward and loss",
    "backward_peak": "peak of backward",
    "optimizer_step_peak": "peak of the optimizer step",
}

Name = Callable[[Comparison], str]


def as_json(found: Report) -> str:
    """Everything, for programs. Sizes are in bytes, errors in percent."""
    content = {
        "schema": "memplan.truth/1",
        "rows": [_json(case) for case in found.covered],
        "other_stacks": [_json(case) for case in found.other_stacks],
        "summary": {
            name: {"median": middle, "worst": top} for name, (middle, top) in found.summary().items()
        },
        "left_out": [{"id": row["id"], "reason": reason} for row, reason in found.left_out],
    }
    return json.dumps(content, indent=2) + "\n"


def as_text(found: Report) -> str:
    """Aligned tables, and every row that is left out."""
    parts = [
        aligned(_sizes(found.covered, _id)),
        "difference by phase, MiB\n" + aligned(_phases(found.covered)),
        aligned(_summary(found)),
        "older stacks than the one simulated\n" + aligned(_sizes(found.other_stacks, _id)),
        f"{len(found.left_out)} rows left out\n"
        + "".join(f"{row['id']}: {reason}\n" for row, reason in found.left_out),
    ]
    return "\n".join(parts)


def as_markdown(found: Report) -> str:
    """The README's tables."""
    reasons = Counter(reason for _, reason in found.left_out)
    compared = len(found.covered) + len(found.other_stacks)
    parts = [
        piped(_sizes(found.covered, lambda case: case.label)),
        piped(_summary(found)),
        "Runs on older releases:\n",
        piped(_sizes(found.other_stacks, lambda case: case.label)),
        f"Of {compared + len(found.left_out)} published rows {compared} are compared. The others:\n",
        piped([["rows", "left out because"]] + [[str(count), why] for why, count in reasons.most_common()]),
    ]
    return "\n".join(parts)


def quoted(text: str, tables: str) -> str:
    """The README with its tables replaced."""
    return _QUOTE.sub(lambda match: f"{match[1]}{tables}{match[2]}", text)


FORMATS: dict[str, Callable[[Report], str]] = {"terminal": as_text, "json": as_json, "markdown": as_markdown}


def main(arguments: Sequence[str]) -> int:
    """Print the tables or write them to the README; 2 when there are no measurements."""
    parser = argparse.ArgumentParser(description="Estimates against published measurements.")
    parser.add_argument("--format", choices=FORMATS, default="terminal")
    parser.add_argument("--update", action="store_true", help="write the README's tables")
    options = parser.parse_args(arguments)
    try:
        found = report(truth_rows.load())
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    if options.update:
        README.write_text(quoted(README.read_text(encoding="utf-8"), as_markdown(found)), encoding="utf-8")
    else:
        sys.stdout.write(FORMATS[options.format](found))
    return 0


def _id(case: Comparison) -> str:
    return str(case.row["id"])


def _json(case: Comparison) -> dict[str, Any]:
    figures = [
        {"metric": it.metric, "measured": it.measured, "estimated": it.estimated, "error": it.error}
        for it in case.figures
    ]
    return {"id": case.row["id"], "run": case.label, "gpu": case.card, "figures": figures}


def _sizes(cases: Sequence[Comparison], name: Name) -> Table:
    """Allocated memory, and the error of reserved memory where it was measured."""
    reserved = any(case.figure(RESERVED) for case in cases)
    table = [["run", "GPU", "measured, MiB", "estimated, MiB", "error", *["error of reserved"] * reserved]]
    for case in cases:
        allocated = case.figure(ALLOCATED)
        assert allocated is not None, case.row["id"]
        sizes = [f"{size / MIB:.1f}" for size in (allocated.measured, allocated.estimated)]
        found = [allocated, case.figure(RESERVED)] if reserved else [allocated]
        table.append([name(case), case.card, *sizes, *map(_percent, found)])
    return table


def _phases(cases: Iterable[Comparison]) -> Table:
    table = [["run", *STAGES]]
    for case in cases:
        found = [case.figure(phase) for phase in STAGES]
        if any(found):
            table.append([_id(case), *(f"{figure.excess:+.2f}" if figure else "" for figure in found)])
    return table


def _summary(found: Report) -> Table:
    table = [["absolute error of", "rows", "median", "worst"]]
    for metric, (middle, top) in found.summary().items():
        words = WORDS.get(metric, metric)
        table.append([words, str(len(found.figures(metric))), f"{middle:.3f} %", f"{top:.3f} %"])
    return table


def _percent(figure: Figure | None) -> str:
    if figure is None:
        return ""
    error = round(figure.error, 3)
    return f"{error:+.3f} %" if error else "0.000 %"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
