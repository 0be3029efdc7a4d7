"""What a step keeps in host memory for the GPU, of one process."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.workload import Workload
from memplan.estimate.host.pinned import pinned
from memplan.estimate.host.share import Share, assumed, modelled
from memplan.estimate.kept import Kept
from memplan.estimate.paging import paged


def offloaded(workload: Workload, found: Kept) -> Iterator[Share]:
    """Activations in pinned memory, and paged optimizer states.

    Paged states lie in unified memory (``cudaMallocManaged``, bitsandbytes csrc/pythonInterface.cpp): their
    pages are on the GPU as long as it has room, and in host memory otherwise.
    """
    if found.offloaded:
        yield modelled("offloaded_activations", pinned(found.offloaded))
    states = sum(paged(workload.optimizer, found.trained))
    if states:
        yield assumed("paged_optimizer_states", states, 0, states)
