"""Measured rows and their estimates as tables, for the console and for the README."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from benchmarks.tables import Table, aligned, piped
from benchmarks.truth_cases import Case
from benchmarks.truth_comparison import MIB, STAGES, Comparison, Figure, Report
from benchmarks.truth_facts import ALLOCATED, PROCESS, RESERVED

Name = Callable[[Comparison], str]

GATED = {
    "high confidence, one GPU": lambda case: case.trusted,
    "Tesla T4 and RTX A6000": lambda case: (
        case.operator is None and case.contradicts is None and case.gpu in ("t4", "rtx-a6000")
    ),
}
"""Groups of rows that limits are set for."""


def as_text(found: Report) -> str:
    """Aligned tables, and every row that is left out."""
    parts = [
        aligned(_errors(found)),
        aligned(_sizes(found.compared, _id)),
        "difference by phase, MiB\n" + aligned(_phases(found.compared)),
        *(["outcomes\n" + aligned(_outcomes(found, _id))] if found.decided else []),
        f"{len(found.left_out)} rows left out\n"
        + "".join(f"{name}: {reason}\n" for name, reason in found.left_out.items()),
    ]
    return "\n".join(parts)


def as_markdown(found: Report) -> str:
    """The README's tables."""
    reasons = Counter(found.left_out.values())
    compared = len(found.compared)
    parts = [
        piped(_errors(found)),
        *([piped(_outcomes(found, _label))] if found.decided else []),
        "<details><summary>Every row</summary>\n",
        piped(_sizes(found.compared, _label)),
        "</details>\n",
        f"Of {compared + len(found.left_out)} published rows {compared} are compared. The others:\n",
        piped([["rows", "left out because"]] + [[str(count), why] for why, count in reasons.most_common()]),
    ]
    return "\n".join(parts)


def _id(row: Comparison) -> str:
    return row.case.id


def _label(row: Comparison) -> str:
    return row.case.label


def _errors(found: Report) -> Table:
    """Absolute errors by group or suite, and by metric."""
    table = [["absolute error of", "rows", "median", "mean", "worst"]]
    groups: dict[str, Callable[[Case], bool]] = dict(GATED)
    groups["releases in doubt"] = lambda case: case.contradicts is not None
    groups |= {suite: of_suite(suite) for suite in found.suites()}
    for name, chosen in groups.items():
        for metric in found.metrics():
            spread = found.spread(metric, chosen)
            if spread is not None:
                errors = (spread.median, spread.mean, spread.worst)
                table.append([f"{name}: {metric}", str(spread.rows), *(f"{it:.3f} %" for it in errors)])
    return table


def of_suite(suite: str) -> Callable[[Case], bool]:
    """Whether a row is of a suite."""
    return lambda case: case.suite == suite


def _sizes(rows: Sequence[Comparison], name: Name) -> Table:
    """Allocated memory, and the errors of reserved memory and of the process where they were measured."""
    table = [["run", "GPU", "measured, MiB", "estimated, MiB", "error", "of reserved", "of the process"]]
    for row in rows:
        allocated = row.figure(ALLOCATED)
        sizes = ["", ""]
        if allocated is not None:
            sizes = [f"{size / MIB:.1f}" for size in (allocated.measured, allocated.estimated)]
        found = (allocated, row.figure(RESERVED), row.figure(PROCESS))
        if any(found):
            table.append([name(row), row.case.card, *sizes, *map(_percent, found)])
    return table


def _phases(rows: Iterable[Comparison]) -> Table:
    table = [["run", *STAGES]]
    for row in rows:
        found = [row.figure(phase) for phase in STAGES]
        if any(found):
            table.append([_id(row), *(f"{figure.excess:+.2f}" if figure else "" for figure in found)])
    return table


def _outcomes(found: Report, name: Name) -> Table:
    table = [["run", "GPU", "published", "memplan says", "decision"]]
    for row in found.decided:
        table.append([name(row), row.case.card, str(row.case.outcome), str(row.verdict), str(row.decision)])
    return table


def _percent(figure: Figure | None) -> str:
    if figure is None:
        return ""
    error = round(figure.error, 3)
    return f"{error:+.3f} %" if error else "0.000 %"
