"""How ``memplan sweep --measure`` runs a combination: as ``memplan smoke`` does without a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memplan.domain.architecture import DeclaredModel
from memplan.domain.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memplan.domain.measurement import Comparison
    from memplan.domain.target import Target
    from memplan.domain.workload import Workload
    from memplan.sweep.runs import Measure


def measurer(targets: Sequence[Target]) -> Measure:
    """Models of a known family run on tensors without bytes, mechanisms and declared tensors on the CPU.

    A GPU is left alone: one process cannot give every run a fresh one.
    """
    largest = max(targets, key=lambda target: target.limit, default=None)

    def measure(workload: Workload) -> Comparison:
        """Run it once.

        Raises:
            InputError: it cannot be run here.
        """
        from memplan import smoke
        from memplan.smoke.device import Asked

        if workload.world.data_parallel > 1:
            raise InputError("runs of several processes are left to memplan smoke")
        if isinstance(workload.model, DeclaredModel):
            return smoke.on_cpu(workload, Asked(steps=1))
        return smoke.fake(workload, largest)

    return measure
