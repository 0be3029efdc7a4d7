"""Changed values as edits of an axolotl file, or advice where it has no key for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from memplan.dialects import loader, table, writing
from memplan.dialects.axolotl import adopting, losses, numbers
from memplan.dialects.axolotl.checkpointing import OFFLOADING_SWITCHES
from memplan.dialects.axolotl.read import LEGACY
from memplan.dialects.reading import FieldChange, Reading
from memplan.dialects.trainer import optimizers
from memplan.dialects.trainer.adapting import frozen, together
from memplan.dialects.trainer.arguments import ATTENTION
from memplan.documents.tree import MappingNode, ScalarNode
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Attention, Checkpointing, Workload

FSDP_KEYS = ("activation_checkpointing", "fsdp_activation_checkpointing")
"""Keys of ``fsdp_config`` that turn checkpointing on too."""

_OFFLOADING = "activation_offloading"
_OFFLOADINGS = {
    ActivationOffload.NONE: False,
    ActivationOffload.STREAMS: True,
    ActivationOffload.SINGLE_STREAM: "legacy",
}


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits, unit by unit: batch sizes go together or not at all, as do an adapter's keys."""
    return table.edits(reading, changes, _WRITERS, "axolotl")


def _put(reading: Reading, key: str, value: Any, after: str | None = None) -> list[Edit]:
    root = reading.document.root
    assert isinstance(root, MappingNode)
    anchor = next(
        (name for name in (after, "micro_batch_size", "sequence_len", "base_model") if _has(root, name)), None
    )
    return writing.put(reading.document.source, root, key, value, anchor)


def _has(root: MappingNode, key: str | None) -> bool:
    return key is not None and root.item(key) is not None


def _given(reading: Reading, key: str) -> Any:
    root = reading.document.root
    node = root.get(key) if isinstance(root, MappingNode) else None
    return node.value if isinstance(node, ScalarNode) else node


def _batch(reading: Reading, after: Workload) -> list[Edit]:
    if _given(reading, "batch_size") is not None:
        raise EditRefusedError(
            "batch_size decides the other two; replace it by micro_batch_size and "
            "gradient_accumulation_steps first"
        )
    before = reading.workload.batch
    written: list[Edit] = []
    if after.batch.micro != before.micro:
        written += _put(reading, "micro_batch_size", after.batch.micro, "gradient_accumulation_steps")
    if after.batch.accumulation != before.accumulation:
        written += _put(reading, "gradient_accumulation_steps", after.batch.accumulation, "micro_batch_size")
    return written


def _sequence(reading: Reading, after: Workload) -> list[Edit]:
    return _put(reading, "sequence_len", after.sequence.length)


def _checkpointing(reading: Reading, after: Workload) -> list[Edit]:
    if after.checkpointing == reading.workload.checkpointing:
        return []
    before = reading.workload
    if before.checkpointing.offload or before.activation_offload is not ActivationOffload.NONE:
        raise EditRefusedError("what is checkpointed depends on activation offloading: turn that off first")
    if after.checkpointing not in (Checkpointing(every=0), Checkpointing(every=1)):
        raise EditRefusedError("axolotl checkpoints every block or none")
    sharded = _sharded(reading)
    if after.checkpointing.every == 0 and sharded is not None:
        place = reading.document.source.location(sharded.span)
        raise EditRefusedError("fsdp_config turns it on, not gradient_checkpointing alone", location=place)
    return [
        *_put(reading, "gradient_checkpointing", after.checkpointing.every == 1),
        *_not_reentrant(reading),
    ]


def _sharded(reading: Reading) -> ScalarNode | None:
    """Where FSDP is told to checkpoint as well."""
    options = _given(reading, "fsdp_config")
    found = [options.get(key) for key in FSDP_KEYS] if isinstance(options, MappingNode) else []
    return next((node for node in found if isinstance(node, ScalarNode) and node.value is True), None)


def _not_reentrant(reading: Reading) -> list[Edit]:
    """Checkpointing that memplan turns on is the newer kind, also where the file asks for the other."""
    options = _given(reading, "gradient_checkpointing_kwargs")
    if not isinstance(options, MappingNode) or options.item("use_reentrant") is None:
        return []
    return writing.put(reading.document.source, options, "use_reentrant", False)


def _attention(reading: Reading, after: Workload) -> list[Edit]:
    if after.attention is reading.workload.attention:
        return []
    name = next((name for name, kind in ATTENTION.items() if kind is after.attention), None)
    if name is None:
        raise EditRefusedError(f"axolotl cannot be told to use {after.attention} attention")
    flash = Attention.FLASH_ATTENTION_2
    packed = reading.workload.causal_mask or _given(reading, "sample_packing") is True
    if packed and (after.attention is flash) is not (reading.workload.attention is flash):
        raise EditRefusedError("with sample_packing another kernel needs a mask, or does without")
    used = next((key for key in LEGACY if _given(reading, key) is True), None)
    if used is None or _given(reading, "attn_implementation") is not None:
        return _put(reading, "attn_implementation", name)
    flag = next(key for key, kind in LEGACY.items() if kind is after.attention)
    return [*_put(reading, used, False), *_put(reading, flag, True, used)]


def _activation_offload(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of ``activation_offloading`` where blocks are checkpointed and trained whole.

    Raises:
        EditRefusedError: adapters are trained, checkpointing is off or of the older kind, offloading is to
            end, or something else offloads already.
    """
    before, wanted = reading.workload, after.activation_offload
    if wanted is before.activation_offload:
        return []
    switch = _given(reading, "gradient_checkpointing")
    if switch in OFFLOADING_SWITCHES or _given(reading, _OFFLOADING) not in (None, *_OFFLOADINGS.values()):
        raise EditRefusedError("another kind of offloading is asked for: turn that off first")
    if wanted not in _OFFLOADINGS or wanted is ActivationOffload.NONE:
        raise EditRefusedError(f"of offloading {_OFFLOADING}: true and legacy are written")
    if after.adapter is not None:
        raise EditRefusedError("axolotl before 2026-06-15 keeps the activations of adapters on the GPU")
    if after.checkpointing != Checkpointing(every=1):
        raise EditRefusedError("axolotl offloads the inputs of checkpointed blocks, of every one")
    unasked = before.checkpointing.every and not switch
    asked = _put(reading, "gradient_checkpointing", True) if unasked else []
    return [*asked, *_put(reading, _OFFLOADING, _OFFLOADINGS[wanted], "gradient_checkpointing")]


def _evaluation(reading: Reading, after: Workload) -> list[Edit]:
    before, wanted = reading.workload.evaluation, after.evaluation
    if wanted == before:
        return []
    if before is None or wanted is None or replace(before, batch=wanted.batch) != wanted or not wanted.batch:
        raise EditRefusedError("of an evaluation the size of its batches is written")
    return _put(reading, "eval_batch_size", wanted.batch, "micro_batch_size")


_WRITERS: dict[str, table.Writer] = together(
    {
        "batch": _batch,
        "evaluation": _evaluation,
        "host": loader.writer(beside=("micro_batch_size", "sequence_len", "base_model")),
        "sequence": _sequence,
        "checkpointing": _checkpointing,
        "activation_offload": _activation_offload,
        "attention": _attention,
        "adapter": adopting.adapter,
        "quantization": adopting.quantization,
        "precision": partial(frozen, "what is trained is fp32 under FSDP, and what is frozen is not"),
        "loss": losses.write,
        "kernels": losses.along,
        "optimizer": partial(optimizers.write, numbers.ARGUMENTS),
    },
    "adapter",
    "quantization",
    "precision",
)
