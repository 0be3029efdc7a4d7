"""Changed values as edits of a LLaMA-Factory file, or advice where it has no key for them."""

from __future__ import annotations

from functools import partial

from memplan.dialects.llamafactory import adopting
from memplan.dialects.llamafactory.vocabulary import ARGUMENTS
from memplan.dialects.reading import Reading
from memplan.dialects.table import Writer, put
from memplan.dialects.trainer import optimizers, pairs, writers
from memplan.dialects.trainer.adapting import frozen, together
from memplan.documents.tree import MappingNode, ScalarNode
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Task, Workload

_OWN_OPTIMIZERS = ("use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_muon")
_ABOUT_MODEL = ("flash_attn", "trust_remote_code", "model_name_or_path")


def _given(reading: Reading, key: str) -> object:
    root = reading.document.root
    node = root.get(key) if isinstance(root, MappingNode) else None
    return node.value if isinstance(node, ScalarNode) else node


def checkpointing(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of ``disable_gradient_checkpointing`` and ``use_reentrant_gc``.

    Raises:
        EditRefusedError: not every block nor none, or Unsloth's kind or the Trainer's switch is on.
    """
    before, wanted = reading.workload.checkpointing, after.checkpointing
    if wanted == before:
        return []
    if before.offload or wanted.offload:
        raise EditRefusedError("use_unsloth_gc sends activations to the host: turn that off first")
    if wanted.partial:
        raise EditRefusedError("LLaMA-Factory checkpoints every block or none")
    if _given(reading, "gradient_checkpointing") is True:
        place = reading.origins["checkpointing"].location
        raise EditRefusedError("gradient_checkpointing asks for it as well", location=place)
    written: list[Edit] = []
    if bool(wanted.every) is not bool(before.every):
        written += put(reading, ARGUMENTS.checkpointing, not wanted.every, _ABOUT_MODEL)
    spoken = _given(reading, "use_reentrant_gc")
    if wanted.every and wanted.reentrant is not (spoken is not False):
        written += put(
            reading,
            ("use_reentrant_gc",),
            wanted.reentrant,
            ("disable_gradient_checkpointing", *_ABOUT_MODEL),
        )
    return written


def optimizer(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of ``optim``.

    Raises:
        EditRefusedError: an optimizer of LLaMA-Factory's own comes before it.
    """
    for key in _OWN_OPTIMIZERS:
        if _given(reading, key) is True:
            raise EditRefusedError(f"{key} comes before optim: turn that off first")
    return optimizers.write(ARGUMENTS, reading, after)


def _in_training(write: Writer) -> Writer:
    """The writer, refused where the file describes generation."""

    def checked(reading: Reading, after: Workload) -> list[Edit]:
        if reading.workload.task is not Task.TRAIN:
            raise EditRefusedError("the file trains nothing")
        return write(reading, after)

    return checked


_OWN: dict[str, Writer] = {
    "checkpointing": checkpointing,
    "adapter": adopting.adapter,
    "quantization": adopting.quantization,
    "precision": partial(frozen, adopting.FROZEN),
    "optimizer": optimizer,
}
_ALL = together(writers(ARGUMENTS) | _OWN, "adapter", "quantization", "precision")
WRITERS = {name: write if name == "attention" else _in_training(write) for name, write in _ALL.items()}

IN_PAIRS = pairs.in_pairs(WRITERS)
"""The writers of stages whose batches are counted in pairs."""
