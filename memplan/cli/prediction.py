"""What a run is held against: a config's estimate, or the plan of a plan file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from memplan.domain.watched import Prediction

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading
    from memplan.domain.target import Target


def planned(path: Path) -> Prediction:
    """What a plan file says of the changed run; on standard error, whether its config holds the plan yet.

    Raises:
        FieldError, FileAccessError, StaleError: it is no plan, or one of something else by now.
    """
    from memplan import profiles
    from memplan.apply import plan_file as files
    from memplan.read import read

    saved = files.load(path)
    reading = read(
        saved.source,
        dialect=saved.dialect,
        overrides=saved.overrides,
        model=saved.model,
        beside=saved.beside,
    )
    plan = saved.plan(reading, profiles.target(saved.gpu, ram=saved.memory))
    notes: tuple[str, ...] = ()
    if plan.changes:
        notes = (f"{saved.source} does not hold the plan yet: memplan apply --plan {path}",)
        print(f"memplan: {notes[0]}", file=sys.stderr, flush=True)
    return Prediction.of(plan.after, str(path), margin=plan.margin, notes=notes)


def estimated(reading: Reading, gpu: str | None) -> Prediction:
    """What is estimated for a config on the GPU asked for, else on the config's own, else on this machine's.

    Raises:
        InputError: there is no such GPU.
    """
    from memplan.estimate import estimate

    return Prediction.of(estimate(reading.workload, _target(reading, gpu)), str(reading.path))


def _target(reading: Reading, gpu: str | None) -> Target | None:
    from memplan import probe
    from memplan.cli import target
    from memplan.domain.errors import InputError

    found = target.of_reading(reading, gpu)
    if found is not None:
        return found
    try:
        present = probe.devices()
    except InputError:
        return None
    return target.this_machine() if present else None
