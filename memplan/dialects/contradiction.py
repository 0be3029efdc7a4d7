"""Two places that say different things: a finding at one of them that names the other, and who wins."""

from __future__ import annotations

from memplan.domain.errors import Location
from memplan.domain.finding import Finding, Level

DIFFERS = "MP002"
"""A value is written in two places that differ; one of them counts."""

REFUSED = "MP006"
"""The framework refuses to start with these files."""


def contradiction(
    place: Location,
    says: str,
    other: Location | None,
    other_says: str,
    outcome: str,
    *,
    refused: bool = False,
    fix: str | None = None,
) -> Finding:
    """``says`` holds at a place, ``other_says`` at another; ``outcome`` tells which of the two counts.

    With ``refused`` neither does: the framework stops, and the gate fails.
    """
    where = f"{other_says} at {other.path}:{other.line}" if other is not None else other_says
    return Finding(
        path=place.path,
        line=place.line,
        code=REFUSED if refused else DIFFERS,
        level=Level.ERROR if refused else Level.WARNING,
        message=f"{says} here but {where}; {outcome}",
        fix=fix,
    )
