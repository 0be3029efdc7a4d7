"""``memplan smoke`` as several processes: one for each GPU that the run would have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memplan.cli.options import Format
from memplan.cli.output import emit, emit_report

if TYPE_CHECKING:
    from memplan.cli.job import Job
    from memplan.domain.ranks import RankedRun

LEAST = 3
"""Steps after which every further one repeats the last."""


def several(job: Job) -> bool:
    """Whether the run is one of several processes."""
    return job.workload.world.data_parallel > 1


def run(job: Job, device: str, steps: int, form: Format) -> int:
    """Run it, print what every rank held, and return the exit code.

    Raises:
        InputError: it cannot be run here.
        RunError: a rank failed.
    """
    found = _found(job, device, max(steps, LEAST))
    from memplan.reporters.views.ranks import payload, report

    if form is Format.JSON:
        from memplan.reporters import json

        emit(json.render(payload(job.reading, found)))
    else:
        emit_report(report(job.reading, found), form)
    return 0 if found.passed else 1


def _found(job: Job, device: str, steps: int) -> RankedRun:
    from memplan.cli.progress import progress
    from memplan.domain.errors import InputError
    from memplan.smoke import ranks

    if device == "cuda":
        raise InputError(
            "several processes share this machine's processor, not its GPUs", hint="add --device cpu"
        )
    count = job.workload.world.data_parallel
    with progress(f"running {count} ranks", count) as advance:
        known = 0

        def ended(done: int) -> None:
            nonlocal known
            for _ in range(done - known):
                advance()
            known = done

        return ranks.compare(job.workload, steps=steps, ended=ended)
