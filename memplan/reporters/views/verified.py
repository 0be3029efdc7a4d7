"""What a smoke test has verified of a config, and what it leaves to be done, as a checklist."""

from __future__ import annotations

from pathlib import PurePath

from memplan.apply.checklist import COMPILED
from memplan.dialects.reading import Reading
from memplan.domain.measurement import Comparison

Check = tuple[str, bool]
"""What there is to verify, and whether it was."""


def checks(reading: Reading, found: Comparison) -> tuple[Check, ...]:
    """Everything the run says of itself; and the sources with values of this config that have to be built."""
    if not found.checks:
        return ()
    sources = compiled(reading)
    built = ((f"rebuild, if not done since they changed: {', '.join(sources)}", False),) if sources else ()
    return (*found.checks, *built)


def compiled(reading: Reading) -> tuple[str, ...]:
    """The sources of a compiled language that hold declared values, in the order in which they are named."""
    paths = (str(slot.source.path) for places in reading.slots.values() for slot in places)
    return tuple(dict.fromkeys(path for path in paths if PurePath(path).suffix.lower() in COMPILED))


def ticked(found: tuple[Check, ...]) -> tuple[str, ...]:
    """A line for each."""
    return tuple(f"[{'x' if done else ' '}] {what}" for what, done in found)
