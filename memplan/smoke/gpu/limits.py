"""What does not run on a GPU, or not as simulated: refused by name, and never run as something else."""

from __future__ import annotations

from memplan.domain.errors import InputError
from memplan.domain.workload import Workload
from memplan.smoke import unbuilt


def refuse(workload: Workload) -> None:
    """Check that a workload can be run.

    Raises:
        InputError: it cannot, with every reason.
    """
    reasons = tuple(unbuilt.reasons(workload))
    if reasons:
        raise InputError(f"this run cannot be made on a GPU: {'; '.join(reasons)}", expected=unbuilt.EXPECTED)
