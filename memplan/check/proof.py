"""What the gate finds when it traces the real classes of a config, beside its prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.errors import Location, MemplanError
from memplan.domain.finding import Finding, Level
from memplan.domain.measurement import Comparison
from memplan.domain.target import Target
from memplan.domain.workload import Workload

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading

Prover = Callable[[Workload, Target | None], Comparison]
"""What traces the real classes of a workload: ``memplan.smoke.fake``."""


def proven(reading: Reading, target: Target | None, prover: Prover) -> Iterator[Finding]:
    """Finding MP009 of a config that is not as predicted, MP010 of one that cannot be traced.

    Declared tensors have no class that could be traced, and so no finding.
    """
    if isinstance(reading.workload.model, DeclaredModel):
        return
    try:
        found = prover(reading.workload, target)
    except MemplanError as error:
        yield _finding(reading, "MP010", Level.NOTE, error.message, error.hint)
        return
    if not found.passed:
        message = f"the real classes allocate otherwise than predicted: {_apart(found)}"
        yield _finding(reading, "MP009", Level.ERROR, message, "memplan smoke says where they differ")


def _apart(found: Comparison) -> str:
    """The phases that differ, and by how much."""
    predicted = dict(found.predicted.phases)
    pairs = [(str(phase), predicted.get(phase, Bytes(0)), seen) for phase, seen in found.measured.phases]
    pairs.append(("peak", found.predicted.peak_allocated, found.measured.peak_allocated))
    return ", ".join(
        f"{name} {seen.rounded()} seen, {expected.rounded()} predicted"
        for name, expected, seen in pairs
        if not found.tolerance.within(expected, seen)
    )


def _finding(reading: Reading, code: str, level: Level, message: str, fix: str | None) -> Finding:
    """At the place of the model, where it is known."""
    origin = reading.origins.get("model")
    place = origin.location if origin and origin.location else Location(path=str(reading.path), line=1)
    return Finding(path=place.path, line=place.line, code=code, level=level, message=message, fix=fix)
