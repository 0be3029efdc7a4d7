"""What the tools said, as tables for the console and the README."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from statistics import median

from benchmarks.peers_results import Answer, Result
from benchmarks.tables import Table, aligned, piped

_QUOTE = re.compile(r"(<!-- peers -->\n).*?(<!-- /peers -->)", re.DOTALL)


def markdown(results: Sequence[Result], day: date) -> str:
    """The README's section: a summary, what could not be asked, and every row."""
    return "\n".join(
        (
            f"Run on {day.isoformat()} with {_versions(results)}.\n",
            piped(_summary(results)),
            *_notes(results),
            "\n<details><summary>Every row</summary>\n",
            piped(_rows(results)),
            "</details>\n",
        )
    )


def text(results: Sequence[Result], day: date) -> str:
    """The same for the console."""
    notes = "\n".join(_notes(results))
    return f"{day.isoformat()}, {_versions(results)}\n\n{aligned(_summary(results))}\n{notes}\n\n" + aligned(
        _rows(results)
    )


def quoted(readme: str, tables: str) -> str:
    """The README with its tables replaced."""
    return _QUOTE.sub(lambda match: f"{match[1]}{tables}{match[2]}", readme)


def _versions(results: Sequence[Result]) -> str:
    found = [name.replace("==", " ") for result in results for name in result.tool.packages]
    return ", ".join(dict.fromkeys(found))


def _summary(results: Sequence[Result]) -> Table:
    table = [
        ["tool", "rows", "median", "worst", "process, rows", "median", "worst", "CPU time of one estimate"]
    ]
    for result in results:
        if result.missing or not result.errors:
            table.append([result.tool.name, "0", *[""] * 6])
            continue
        spreads = [*_spread(result.errors), *_spread(result.process_errors)]
        table.append([result.tool.name, *spreads, f"{result.seconds:.2f} s"])
    return table


def _spread(errors: Sequence[float]) -> list[str]:
    if not errors:
        return ["", "", ""]
    return [str(len(errors)), f"{median(errors):.2f} %", f"{max(errors):.1f} %"]


def _notes(results: Sequence[Result]) -> list[str]:
    notes = []
    for result in results:
        if result.missing:
            notes.append(f"- {result.tool.name} could not be installed: {result.missing}")
        for reason, count in result.obstacles.most_common():
            notes.append(f"- {result.tool.name} cannot express {count} row{'s' * (count != 1)}: {reason}.")
    return notes


def _rows(results: Sequence[Result]) -> Table:
    asked = [result for result in results if result.answers]
    table = [["run", "measured, MiB", *(result.tool.name for result in asked)]]
    for answers in zip(*(result.answers for result in asked), strict=True):
        case = answers[0].case
        measured = case.measured("max_memory_allocated")
        assert measured is not None
        table.append([case.label, f"{measured / 2**20:.1f}", *map(_cell, answers)])
    return table


def _cell(answer: Answer) -> str:
    return "n/a" if answer.error is None else f"{round(answer.error, 2) + 0.0:+.2f} %"
