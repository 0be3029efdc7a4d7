"""Host memory of batches on their way to the GPU, of one process."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload
from memplan.estimate.host.pinned import pinned
from memplan.estimate.host.share import Share, modelled

COLUMNS = 3
"""Token ids, labels and attention mask, as data collators of transformers make them."""


def batches(workload: Workload) -> Iterator[Share]:
    """As many as are under way at most, and the one in use.

    A loader has ``prefetch`` batches under way for each worker, and pins each when it arrives
    (``_MultiProcessingDataLoaderIter`` in torch/utils/data/dataloader.py).
    """
    use = workload.host
    column = workload.batch.micro * workload.sequence.length * Dtype.INT64.itemsize
    ahead = use.workers * use.prefetch + 1
    yield modelled("batches", ahead * COLUMNS * column)
    if use.pinned:
        yield modelled("pinned_batches", pinned([column] * (ahead * COLUMNS)))
