"""What does not run on a CPU, or not as simulated: refused by name, and never run as something else."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.errors import InputError
from memplan.domain.workload import Attention, Workload
from memplan.smoke import unbuilt

KERNELS = (Attention.EAGER, Attention.SDPA, Attention.MATH)


def refuse(workload: Workload) -> None:
    """Check that a workload can be run.

    Raises:
        InputError: it cannot, with every reason.
    """
    reasons = tuple(_reasons(workload))
    if reasons:
        raise InputError(f"this run cannot be made on a CPU: {'; '.join(reasons)}", expected=unbuilt.EXPECTED)


def _reasons(workload: Workload) -> Iterator[str]:
    if workload.attention not in KERNELS:
        yield f"its attention is {workload.attention}"
    yield from unbuilt.reasons(workload)
