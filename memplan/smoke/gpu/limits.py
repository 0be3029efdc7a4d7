"""What does not run on a GPU, or not as simulated: refused by name, and never run as something else."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.workload import Task, Workload
from memplan.smoke import unbuilt


def refuse(workload: Workload) -> None:
    """Check that a workload can be run.

    Raises:
        InputError: it cannot, with every reason.
    """
    unbuilt.refuse("this run cannot be made on a GPU", _reasons(workload))


def _reasons(workload: Workload) -> Iterator[str]:
    yield from unbuilt.reasons(workload)
    yield from unbuilt.of_bitsandbytes(workload)
    if workload.task is Task.GENERATE and workload.generate.cache == "static":
        yield "its cache is static, for which decoding is compiled into a graph with memory of its own"
