"""Changed values as edits of a TRL file, or advice where it has no key for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from memplan.dialects import table
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import FieldChange, Reading
from memplan.dialects.trainer import pairs, writers
from memplan.dialects.trl.adapting import adopting
from memplan.dialects.trl.methods import GRPO, SFT, Method, method
from memplan.dialects.trl.models import LORA
from memplan.dialects.trl.releases import LATEST, Release, release
from memplan.documents.tree import MappingNode
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Attention, Workload

_OFFLOADING = "activation_offloading"
_BESIDE = ("gradient_checkpointing", "gradient_accumulation_steps", "per_device_train_batch_size")


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits, all that share a first name together or not at all."""
    document = reading.document
    keys = Keys(root=Value(source=document.source, key="", node=document.root), lenient=True)
    spoken, _ = release(keys)
    trained = method(keys)
    found = adopting(writers(spoken.arguments, LORA), spoken)
    del found["loss"]
    found["activation_offload"] = partial(_activation_offload, spoken, trained)
    if trained is GRPO:
        del found["sequence"]
    if keys.flag("padding_free") or keys.flag("packing"):
        found["attention"] = partial(_kept_mask, found["attention"])
    if trained.paired:
        found = pairs.in_pairs(found)
    return table.edits(reading, changes, found, "TRL")


def _kept_mask(write: table.Writer, reading: Reading, after: Workload) -> list[Edit]:
    """Another kind of attention for rows without padding.

    Raises:
        EditRefusedError: documents would be kept apart by a mask that was not there, or that would go away.
    """
    flash = Attention.FLASH_ATTENTION_2
    if (after.attention is flash) is not (reading.workload.attention is flash):
        raise EditRefusedError("without padding, flash attention and a mask exclude each other")
    return write(reading, after)


def _activation_offload(spoken: Release, trained: Method, reading: Reading, after: Workload) -> list[Edit]:
    """Edits of TRL's switch, which SFT has since 0.18, reward models and DPO since 1.0, others not.

    Raises:
        EditRefusedError: another kind of offloading, or a method or release that may not know the key.
    """
    wanted = after.activation_offload
    if wanted is reading.workload.activation_offload:
        return []
    if wanted not in (ActivationOffload.NONE, ActivationOffload.STREAMS):
        raise EditRefusedError("TRL copies activations on a stream of their own")
    root = reading.document.root
    written = isinstance(root, MappingNode) and root.item(_OFFLOADING) is not None
    if not written and spoken is not LATEST:
        raise EditRefusedError(f"TRL refuses {_OFFLOADING} before 0.18")
    if not written and trained is not SFT:
        raise EditRefusedError(f"not every trainer of {trained.name} has {_OFFLOADING}")
    return table.put(reading, (_OFFLOADING,), wanted is ActivationOffload.STREAMS, _BESIDE)
