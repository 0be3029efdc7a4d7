"""Tables for the console and for Markdown; the first row is the heading."""

from __future__ import annotations

Table = list[list[str]]


def aligned(table: Table) -> str:
    """Columns padded with spaces: the first to the left, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = []
    for first, *rest in table:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines) + "\n"


def piped(table: Table) -> str:
    """A Markdown table; of two columns the first holds numbers."""
    heading, *rows = table
    rule = ["---", *["---:"] * (len(heading) - 1)] if len(heading) > 2 else ["---:", "---"]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heading, rule, *rows))
