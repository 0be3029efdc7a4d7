"""Host memory while a checkpoint is saved; one process of a run saves."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.workload import Workload
from memplan.estimate.disk.checkpoint import states, weights
from memplan.estimate.host.share import Share, modelled
from memplan.estimate.kept import Kept

SHARD = 50 * 10**9
SHARD_BEFORE_5 = 5 * 10**9
"""``max_shard_size`` of ``save_pretrained`` in transformers, from 5.0 on and before."""


def saving(workload: Workload, found: Kept) -> Iterator[Share]:
    """Copies of the weights of one file, or of the largest optimizer state: whichever is more.

    safetensors copies every tensor of a file that is on the GPU before it writes (``_flatten_as_ptr`` in
    bindings/python/py_src/safetensors/torch.py); ``torch.save`` copies one storage at a time (``_save`` in
    torch/serialization.py).
    """
    if not workload.saving.kept:
        return
    limit = SHARD_BEFORE_5 if workload.framework.transformers_before(5, 0) else SHARD
    sizes = [entry.size for entry in weights(workload, found)]
    shard = max(min(sum(sizes), limit), max(sizes, default=0))
    state = max(states(workload, found), default=0) if workload.saving.optimizer else 0
    yield modelled("checkpoint_in_saving", max(shard, state))
