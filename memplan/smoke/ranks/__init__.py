"""Runs of several processes on one machine, each of which says what it holds of what they share.

``compare`` starts one process a rank; they find each other through a file and talk over gloo. Each trains the
real model as ``DistributedDataParallel``, ``fully_shard`` or DeepSpeed spreads it.
"""

from __future__ import annotations

from collections.abc import Callable

from memplan.domain.ranks import RankedRun
from memplan.domain.workload import Workload

__all__ = ["PATIENCE", "compare"]

PATIENCE = 600.0
"""Seconds after which a run that is not over is ended."""


def compare(
    workload: Workload,
    *,
    steps: int = 3,
    patience: float = PATIENCE,
    ended: Callable[[int], None] | None = None,
) -> RankedRun:
    """Run a workload on as many processes as its world has GPUs, and compare what each holds.

    ``ended`` is told the number of ranks that are done, whenever there are more.

    Raises:
        InputError: the libraries are not installed, the workload asks for something that is not run, or
            this machine has not enough memory for it.
        RunError: a rank failed, or the run took longer than ``patience`` (seconds).
    """
    from memplan.smoke.libraries import require
    from memplan.smoke.ranks.limits import refuse

    refuse(workload)
    framework = require(workload)
    from memplan.smoke.ranks.comparison import compare as run

    return run(workload, framework, steps, patience, ended)
