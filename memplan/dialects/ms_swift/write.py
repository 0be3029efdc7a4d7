"""Changed values as edits of an ms-swift file, or advice where it has no key for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from memplan.dialects import table
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.ms_swift import adopting, gaps, generation, worlds
from memplan.dialects.ms_swift.read import ALLOCATOR, arguments
from memplan.dialects.ms_swift.vocabulary import ARGUMENTS
from memplan.dialects.reading import FieldChange, Reading
from memplan.dialects.table import put
from memplan.dialects.trainer import pairs, writers
from memplan.dialects.trainer.adapting import together
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Workload


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits, all that share a first name together or not at all."""
    keys = _keys(reading)
    if generation.generates(keys):
        return table.edits(reading, changes, generation.WRITERS, "ms-swift")
    found = writers(arguments(keys, reading.given.gpus))
    found |= {
        "batch": _batch,
        "world": worlds.write,
        "adapter": adopting.adapter,
        "quantization": adopting.quantization,
        "allocator": _allocator,
    }
    found = together(found, "adapter", "quantization")
    method = keys.word("rlhf_type")
    if method in gaps.PAIRED:
        found = pairs.in_pairs(found)
    if method is not None:
        del found["loss"]
    if method == "grpo":
        del found["sequence"]
    if worlds.by_fsdp(keys):
        found["checkpointing"] = partial(_refused, "ms-swift's fsdp2.json decides what is checkpointed")
    if keys.get(*gaps.MEGATRON) is not None:
        found = {}
    return table.edits(reading, changes, found, "ms-swift")


def _keys(reading: Reading) -> Keys:
    document = reading.document
    return Keys(root=Value(source=document.source, key="", node=document.root), lenient=True)


def _batch(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of both sizes: accumulation that isn't written follows from the micro-batch, so it is made so.

    Raises:
        EditRefusedError: it follows from the number of GPUs as well, which nobody gave.
    """
    before, wanted = reading.workload.batch, after.batch
    if wanted == before:
        return []
    origin, world = reading.origins["batch.accumulation"], reading.origins["world.data_parallel"]
    if origin.how == "default" and world.how != "written":
        raise EditRefusedError(
            "gradient_accumulation_steps is absent and follows from the number of GPUs: give --gpus N"
        )
    written = put(reading, ARGUMENTS.micro, wanted.micro, ARGUMENTS.accumulation)
    return written + put(reading, ARGUMENTS.accumulation, wanted.accumulation, ARGUMENTS.micro)


def _allocator(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of the section ``ENV``.

    Raises:
        EditRefusedError: the file has none, so that its release may not know it.
    """
    if after.allocator == reading.workload.allocator:
        return []
    return put(reading, ALLOCATOR, after.allocator.text)


def _refused(reason: str, reading: Reading, after: Workload) -> list[Edit]:
    if after.checkpointing == reading.workload.checkpointing:
        return []
    raise EditRefusedError(reason)
