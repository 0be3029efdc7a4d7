"""``memplan profiles``: named profiles of GPUs, and how many hub ids can be planned offline."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.profiles import NamedProfile
from memplan.reporters.blocks import Heading, Paragraph, Report, Table


def report(models: Sequence[str], named: Sequence[NamedProfile]) -> Report:
    """Named profiles first, then where the models are listed."""
    rows = tuple(
        (
            item.gpu,
            item.name + (" (default)" if item.default else ""),
            f"{item.margin:.0%}",
            item.allow,
            item.summary,
        )
        for item in named
    )
    columns = ("GPU", "profile", "keeps free", "allows", "meant for")
    return (
        Heading("Named profiles"),
        Table(columns=columns, align="<<><<", rows=rows),
        Paragraph(f"{len(models)} models are known offline: memplan models TEXT finds them."),
    )
