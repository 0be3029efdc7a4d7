"""What a run asks of the machine around the GPU: loading, DataLoader workers, checkpoints on disk."""

from __future__ import annotations

from memplan.dialects.keys import Keys
from memplan.dialects.trainer.arguments import Arguments
from memplan.dialects.trainer.precision import published
from memplan.domain.architecture import Architecture
from memplan.domain.host import HostUse, Saving

PREFETCH = 2
"""Batches that a worker of PyTorch's DataLoader prepares ahead."""


def host(keys: Keys, arguments: Arguments, shape: Architecture, loading: str) -> HostUse:
    """Workers and pinned memory; ``loading`` says how the weights come in (memplan.domain.host)."""
    workers = keys.get(*arguments.names("dataloader_num_workers"))
    ahead = keys.get(*arguments.names("dataloader_prefetch_factor"))
    pinned = keys.get(*arguments.names("dataloader_pin_memory"))
    for name, value in (("workers", workers), ("prefetch", ahead), ("pinned", pinned)):
        keys.note(f"host.{name}", value, "the Trainer's default")
    count = _count(keys, arguments, "dataloader_num_workers")
    return HostUse(
        loading=loading,
        published=published(shape),
        workers=arguments.workers if count is None else count,
        prefetch=_count(keys, arguments, "dataloader_prefetch_factor") or PREFETCH,
        pinned=keys.flag(*arguments.names("dataloader_pin_memory")) is not False,
    )


def saving(keys: Keys, arguments: Arguments) -> Saving:
    """``save_total_limit`` checkpoints, with the optimizer's state unless ``save_only_model``.

    ``save_strategy: no`` writes none on the way.
    """
    never = keys.get(*arguments.names("save_strategy"))
    if never is not None and never.written().lower() in ("no", "false"):
        keys.note("saving.kept", never)
        return Saving(kept=0)
    limit = keys.get(*arguments.names("save_total_limit"))
    alone = keys.get(*arguments.names("save_only_model"))
    keys.note("saving.kept", limit, f"no limit is set; {arguments.kept} counted")
    keys.note("saving.optimizer", alone, "the Trainer's default: with the optimizer")
    kept = _count(keys, arguments, "save_total_limit")
    return Saving(kept=kept or arguments.kept, optimizer=not keys.flag(*arguments.names("save_only_model")))


def _count(keys: Keys, arguments: Arguments, name: str) -> int | None:
    """A whole number from 0, None where the key is absent, empty, ``auto``, or negative as in "no limit"."""
    value = keys.get(*arguments.names(name))
    if value is None or value.written() == "auto" or value.written().startswith("-"):
        return None
    return keys.whole(*arguments.names(name), low=0)
