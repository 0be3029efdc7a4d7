"""DeepSpeed's JSON: how a run is spread over GPUs, and in which batches, dtype and with which optimizer.

By itself it names no model: it is read together with the training config that names it, or with a model
from the command line. Source: deepspeed/runtime/config.py and runtime/zero/config.py (0.19.8).
"""

from __future__ import annotations

from memplan.dialects.deepspeed.alone import read
from memplan.dialects.deepspeed.write import edits
from memplan.dialects.reading import Document
from memplan.documents.tree import Language, MappingNode

__all__ = ["NAME", "edits", "read", "recognises"]

NAME = "deepspeed"
_MARKS = ("zero_optimization", "train_micro_batch_size_per_gpu", "train_batch_size")


def recognises(document: Document) -> int:
    """A JSON object with ``zero_optimization`` or one of DeepSpeed's batch sizes."""
    root = document.root
    if not isinstance(root, MappingNode) or root.language is not Language.JSON:
        return 0
    return 3 if any(root.item(mark) for mark in _MARKS) else 0
