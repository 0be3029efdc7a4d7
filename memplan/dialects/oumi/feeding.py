"""DataLoader workers that oumi counts itself: ``dataloader_num_workers: auto``.

Source: ``estimate_dataloader_num_workers`` in src/oumi/core/distributed.py (0.9).
"""

from __future__ import annotations

from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.domain.workload import Workload

KEY = "training.dataloader_num_workers"
PER_GPU = 2
MOST = 8


def fed(keys: Keys, run: Workload, gpus: int | None) -> Workload:
    """The run with two workers for each GPU, eight at most; a machine of few cores gets fewer."""
    value = keys.get(KEY)
    if value is None or value.written() != "auto":
        return run
    count = min(PER_GPU * (gpus or run.world.data_parallel), MOST)
    note = f"auto: {PER_GPU} for each GPU of the machine, {MOST} at most"
    keys.origins["host.workers"] = Origin(location=value.location, how="assumed", note=note)
    return run.changed("host.workers", count)
