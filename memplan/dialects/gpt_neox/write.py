"""Changed values as edits of a GPT-NeoX config, or advice where it has no key for them."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.dialects import table
from memplan.dialects.gpt_neox.read import BEFORE, LENGTH
from memplan.dialects.reading import FieldChange, Reading
from memplan.dialects.zero import batch
from memplan.documents.tree import MappingNode, ScalarNode
from memplan.domain.architecture import Architecture
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Checkpointing, Workload


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """Batch sizes, sequences and checkpointing."""
    return table.edits(reading, changes, _WRITERS, "GPT-NeoX")


def _batch(reading: Reading, after: Workload) -> list[Edit]:
    """Micro-batch and accumulation; a global batch that is written as well keeps the product."""
    before, wanted = reading.workload.batch, after.batch
    if before == wanted:
        return []
    same = before.micro * before.accumulation == wanted.micro * wanted.accumulation
    if _number(reading, batch.TOTAL) is not None and not same:
        raise EditRefusedError(f"{batch.TOTAL} is written too, and would contradict")
    found: list[Edit] = []
    for name, size in ((batch.MICRO, wanted.micro), (batch.ACCUMULATION, wanted.accumulation)):
        derived = name == batch.ACCUMULATION and _number(reading, name) is None
        if derived and (size == 1 or _number(reading, batch.TOTAL) is not None):
            continue
        if _number(reading, name) != size:
            found += table.put(reading, (name,), size, (batch.MICRO, batch.TOTAL, "seq_length"))
    return found


def _number(reading: Reading, name: str) -> int | None:
    root = reading.document.root
    node = root.get(name) if isinstance(root, MappingNode) else None
    return node.value if isinstance(node, ScalarNode) and isinstance(node.value, int) else None


def _sequence(reading: Reading, after: Workload) -> list[Edit]:
    model = after.model
    if isinstance(model, Architecture) and after.sequence.length > model.max_position_embeddings:
        raise EditRefusedError("max_position_embeddings is smaller")
    if _number(reading, "max_position_embeddings") is None:
        raise EditRefusedError("seq_length is also the number of positions where no other is written")
    return table.writer(LENGTH, beside=("num_attention_heads",))(reading, after)


def _checkpointing(reading: Reading, after: Workload) -> list[Edit]:
    wanted, model = after.checkpointing, after.model
    if wanted == reading.workload.checkpointing:
        return []
    chunk = wanted.chunk
    if wanted not in (Checkpointing(), Checkpointing(every=1, chunk=chunk, start=-BEFORE % chunk)):
        raise EditRefusedError("GPT-NeoX checkpoints blocks in chunks, counted from the embeddings, or none")
    if wanted.every and isinstance(model, Architecture) and (BEFORE + model.depth) % chunk:
        raise EditRefusedError(f"a chunk of {chunk} would hold the last blocks with what follows them")
    beside = ("checkpoint_num_layers", "partition_activations", batch.MICRO, "seq_length")
    found = table.put(reading, ("checkpoint_activations",), bool(wanted.every), beside)
    if wanted.every and (_number(reading, "checkpoint_num_layers") or 1) != chunk:
        found += table.put(reading, ("checkpoint_num_layers",), chunk, ("checkpoint_activations",))
    return found


_WRITERS: dict[str, table.Writer] = {
    "batch": _batch,
    "sequence": _sequence,
    "checkpointing": _checkpointing,
}
