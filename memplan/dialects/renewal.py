"""Finding MP011: a run makes anew, again and again, what one buffer would hold.

A warning, since such a run goes through; an error where the config itself refuses it.
"""

from __future__ import annotations

from memplan.dialects.reading import Reading
from memplan.domain.architecture import DeclaredModel
from memplan.domain.errors import Location
from memplan.domain.finding import Finding, Level
from memplan.domain.workload import Workload

CODE = "MP011"


def findings(reading: Reading, workload: Workload | None = None) -> tuple[Finding, ...]:
    """At the setting that decides it; ``workload`` is what a plan makes of the config's own."""
    model = (workload or reading.workload).model
    if not isinstance(model, DeclaredModel) or model.mechanism is None:
        return ()
    from memplan import programs

    found = programs.renewal(model.mechanism, dict(model.values))
    if found is None:
        return ()
    origin = reading.origins.get(found.setting) or reading.origins.get("model")
    place = origin.location if origin else None
    place = place or Location(path=reading.document.source.path, line=1)
    return (
        Finding(
            path=place.path,
            line=place.line,
            code=CODE,
            level=Level.ERROR if found.refused else Level.WARNING,
            message=found.message,
            fix=found.fix,
        ),
    )
