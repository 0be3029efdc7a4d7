"""axolotl YAML: a run of the Hugging Face Trainer, described in one file.

Facts come from axolotl's own schemas and loader (July 2026): the file goes through PyYAML's safe
loader into pydantic, so a quoted number counts as the number, an empty value as absent, a repeated key
by its last value, and a key nobody knows is dropped without a word.
"""

from __future__ import annotations

from collections.abc import Sequence

from memplan.dialects.axolotl.read import read
from memplan.dialects.reading import Document, FieldChange, Reading
from memplan.documents.tree import MappingNode
from memplan.domain.edit import Advice, Edit

__all__ = ["NAME", "edits", "read", "recognises"]

NAME = "axolotl"
_MARKS = ("sequence_len", "micro_batch_size", "adapter", "datasets", "gradient_accumulation_steps")


def recognises(document: Document) -> int:
    """A mapping with ``base_model``; surer with another of axolotl's own keys beside it."""
    root = document.root
    if not isinstance(root, MappingNode) or root.item("base_model") is None:
        return 0
    return 4 if any(root.item(mark) for mark in _MARKS) else 2


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits of the file, or as advice."""
    from memplan.dialects.axolotl import write

    return write.edits(reading, changes)
