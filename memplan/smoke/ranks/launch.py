"""The processes of a run: started together, waited for, ended together."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from memplan.domain.errors import MemplanError, RunError
from memplan.domain.ranks import Holdings
from memplan.smoke.child import Child, interruptible
from memplan.smoke.ranks.job import Failure, Folder, Job

WORKER = "memplan.smoke.ranks.worker"

GRACE = 1.0
"""Seconds for other ranks to say why they failed, once one has."""

_PAUSE = 0.02


def launch(job: Job, ended: Callable[[int], None] | None = None) -> tuple[Holdings, ...]:
    """Run a job and return what each rank held.

    Raises:
        RunError: a rank failed or was killed, or it took too long.
    """
    with interruptible(), tempfile.TemporaryDirectory(prefix="memplan-") as path:
        folder = Folder(Path(path))
        folder.order(job)
        ranks: list[Child] = []
        try:
            for number in range(job.world):
                ranks.append(Child(WORKER, [path, str(number)], folder.log(number), {"TMPDIR": path}))
            _wait(ranks, job.patience, ended or _nobody)
            return tuple(_holdings(folder, ranks, job))
        finally:
            for rank in ranks:
                rank.kill()


def _nobody(_: int) -> None:
    """Nobody wants to know."""


def _wait(ranks: list[Child], patience: float, ended: Callable[[int], None]) -> None:
    """Until all have ended, or it takes too long; once one has failed, others get a moment to say why."""
    until = time.monotonic() + patience
    known = 0
    while True:
        codes = [rank.ended() for rank in ranks]
        done = sum(code is not None for code in codes)
        if done > known:
            known = done
            ended(done)
            if any(codes):
                until = min(until, time.monotonic() + GRACE)
        if done == len(ranks) or time.monotonic() > until:
            return
        time.sleep(_PAUSE)


def _holdings(folder: Folder, ranks: list[Child], job: Job) -> list[Holdings]:
    outcomes = [folder.told(number) for number in range(job.world)]
    found = [outcome for outcome in outcomes if isinstance(outcome, Holdings)]
    if len(found) == len(outcomes):
        return found
    raise _explained(folder, ranks, job)


def _explained(folder: Folder, ranks: list[Child], job: Job) -> MemplanError:
    """The failure that came first: a rank that died without a word, else who spoke first of itself."""
    failures = {}
    for number, rank in enumerate(ranks):
        outcome, code = folder.told(number), rank.ended()
        if outcome is None and code is not None:
            return _died(number, code, rank, job)
        if isinstance(outcome, Failure):
            failures[number] = outcome
    if not failures:
        waiting = [str(number) for number in range(job.world) if folder.told(number) is None]
        return RunError(
            f"rank {' and rank '.join(waiting)} did not finish within {job.patience:g} s",
            hint="a smaller model, fewer steps or fewer ranks",
        )
    first = min(failures, key=lambda number: (failures[number].lost, folder.when(number)))
    return _failed(first, failures[first], job)


def _died(number: int, code: int, rank: Child, job: Job) -> MemplanError:
    who = f"rank {number} of {job.world}"
    if code >= 0:
        said = rank.last_words()
        return RunError(f"{who} ended with exit code {code}" + (f": {said}" if said else ""))
    name = (
        signal.Signals(-code).name if -code in {item.value for item in signal.Signals} else f"signal {-code}"
    )
    hint = "the kernel kills so when memory is short: see dmesg" if -code == signal.SIGKILL else None
    return RunError(f"{who} was killed by {name}", hint=hint)


def _failed(number: int, failure: Failure, job: Job) -> MemplanError:
    who = f"rank {number} of {job.world}"
    if failure.memory:
        return RunError(f"{who} was out of memory: {failure.message}", hint="fewer ranks, or a smaller model")
    return RunError(f"{who} failed: {failure.kind}: {failure.message} ({failure.place})")
