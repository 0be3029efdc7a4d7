"""accelerate's ``config.yaml``: over how many GPUs a run is launched, how it is spread, in which precision.

By itself it names no model: it is read together with the training config it launches, or with a model from
the command line. Source (1.15): ``ClusterConfig`` in src/accelerate/commands/config/config_args.py.
"""

from __future__ import annotations

from memplan.dialects.accelerate.alone import read
from memplan.dialects.accelerate.write import edits
from memplan.dialects.reading import Document
from memplan.documents.tree import MappingNode

__all__ = ["NAME", "edits", "read", "recognises"]

NAME = "accelerate"


def recognises(document: Document) -> int:
    """A mapping with ``distributed_type``, which accelerate requires."""
    root = document.root
    return 4 if isinstance(root, MappingNode) and root.item("distributed_type") is not None else 0
