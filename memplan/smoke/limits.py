"""What the trace of the real classes does not cover: refused by name, so that nothing is compared by half."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.workload import Workload
from memplan.smoke import unbuilt


def refuse(workload: Workload) -> None:
    """Check that a workload can be traced.

    Raises:
        InputError: it cannot, with every reason.
    """
    unbuilt.refuse("this run cannot be traced on fake tensors", _reasons(workload))


def _reasons(workload: Workload) -> Iterator[str]:
    yield from unbuilt.reasons(workload)
    yield from unbuilt.of_bitsandbytes(workload)
