"""What an axolotl run asks of the machine around the GPU: loading, DataLoader workers, checkpoints."""

from __future__ import annotations

from memplan.dialects.keys import Keys
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.host import HostUse, Saving

_LOADER = ("dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_pin_memory")
_BATCHES_AHEAD = 256
"""With one worker per GPU (``default_dataloader_opts`` in axolotl src/axolotl/utils/schemas/config.py)."""

_KEPT = 4
"""``save_total_limit`` of axolotl (core/builders/base.py) when the file says nothing."""


def host(keys: Keys, shape: Architecture) -> HostUse:
    """Weights go to the GPU as they are read (``device_map``) unless FSDP places them."""
    loading = "mapped" if keys.get("fsdp") or keys.get("fsdp_config") else "direct"
    for name, key in zip(("workers", "prefetch", "pinned"), _LOADER, strict=True):
        keys.note(f"host.{name}", key, "axolotl's default")
    files = _published(shape)
    if all(keys.get(key) is None for key in _LOADER):
        return HostUse(loading=loading, published=files, workers=1, prefetch=_BATCHES_AHEAD)
    workers = keys.get("dataloader_num_workers")
    pinned = keys.flag("dataloader_pin_memory")
    return HostUse(
        loading=loading,
        published=files,
        workers=workers.whole(0, 1024) if workers is not None else 0,
        prefetch=keys.whole("dataloader_prefetch_factor") or 2,
        pinned=pinned is not False,
    )


def saving(keys: Keys) -> Saving:
    """``save_total_limit`` checkpoints, with the optimizer's state unless ``save_only_model``."""
    keys.note("saving.kept", "save_total_limit", f"axolotl's default: {_KEPT}")
    keys.note("saving.optimizer", "save_only_model", "axolotl's default: with the optimizer")
    limit = keys.get("save_total_limit")
    kept = limit.whole(0, 2**20) if limit is not None else 0
    return Saving(kept=kept or _KEPT, optimizer=not keys.flag("save_only_model"))


def _published(shape: Architecture) -> Dtype | None:
    """The dtype of the model's files, which its ``config.json`` names."""
    named = shape.config.get("dtype", shape.config.get("torch_dtype"))
    try:
        return Dtype.parse(named) if isinstance(named, str) else None
    except ValueError:
        return None
