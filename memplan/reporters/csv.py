"""Rows for spreadsheets and scripts: one header line, plain numbers, text as it is."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO

NAME = "csv"


def render(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated values with ``\\n`` at every end of line; an absent value is empty."""
    written = StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return written.getvalue()
