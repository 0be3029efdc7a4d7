"""Changed values as edits of an oumi config, or advice where it has no key for them."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.dialects import table
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.oumi import adopting, worlds
from memplan.dialects.oumi.generation import BATCH
from memplan.dialects.oumi.training import trainer_type
from memplan.dialects.oumi.vocabulary import ARGUMENTS, arguments
from memplan.dialects.reading import FieldChange, Reading
from memplan.dialects.table import Writer, put, writer
from memplan.dialects.trainer import checkpointing, optimizers, pairs, writers
from memplan.dialects.trainer.adapting import together
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Task, Workload


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits, all that share a first name together or not at all."""
    if reading.workload.task is not Task.TRAIN:
        return table.edits(reading, changes, _GENERATION, "oumi")
    document = reading.document
    keys = Keys(root=Value(source=document.source, key="", node=document.root), lenient=True)
    kind = trainer_type(keys)
    found = pairs.in_pairs(_TRAINING) if kind == "trl_dpo" else dict(_TRAINING)
    if kind == "oumi":
        del found["optimizer"]
    if kind not in ("hf", "oumi", "trl_sft"):
        del found["loss"]
    if kind == "trl_kto":
        found["sequence"] = writers(arguments(kind))["sequence"]
    if kind == "trl_grpo":
        del found["sequence"]
    if kind == "verl_grpo":
        found = {}
    return table.edits(reading, changes, found, "oumi")


def _checkpointing(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of the switch; under FSDP accelerate has the newer kind whatever is asked for.

    Raises:
        EditRefusedError: something else decides it.
    """
    before = reading.workload.checkpointing
    keys = Keys(root=Value(source=reading.document.source, key="", node=reading.document.root), lenient=True)
    if after.checkpointing != before and keys.flag("training.use_deterministic"):
        raise EditRefusedError("training.use_deterministic switches checkpointing off")
    if not keys.flag("fsdp.enable_fsdp"):
        return checkpointing.write(ARGUMENTS, reading, after)
    if after.checkpointing.partial or after.checkpointing.reentrant or after.checkpointing.offload:
        raise EditRefusedError("under FSDP every block is checkpointed in the newer way, or none")
    if bool(before.every) is bool(after.checkpointing.every):
        return []
    return put(reading, ARGUMENTS.checkpointing, bool(after.checkpointing.every), ARGUMENTS.accumulation)


def _optimizer(reading: Reading, after: Workload) -> list[Edit]:
    return optimizers.write(ARGUMENTS, reading, after)


def _rows(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of the number of prompts at a time.

    Raises:
        EditRefusedError: of passes to accumulate, which generation has none of.
    """
    if after.batch.accumulation != 1:
        raise EditRefusedError("generation accumulates nothing")
    return _ROWS(reading, after)


_TRAINING: dict[str, Writer] = together(
    writers(ARGUMENTS)
    | {
        "checkpointing": _checkpointing,
        "adapter": adopting.adapter,
        "quantization": adopting.quantization,
        "optimizer": _optimizer,
        "world": worlds.write,
    },
    "adapter",
    "quantization",
)
_ROWS = writer(BATCH, beside=("generation.max_new_tokens",))
_GENERATION: dict[str, Writer] = {
    "batch": _rows,
    "attention": _TRAINING["attention"],
}
