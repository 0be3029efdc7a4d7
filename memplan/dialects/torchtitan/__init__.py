"""torchtitan's TOML: one job for FSDP2 and its own model code.

Facts come from torchtitan's job_config.py, train.py and models/ of February 2026, the last ones that read
TOML: jobs have been Python functions since (#2386).
"""

from __future__ import annotations

from memplan.dialects.reading import Document
from memplan.dialects.torchtitan.flavors import MODELS
from memplan.dialects.torchtitan.read import read
from memplan.dialects.torchtitan.write import edits
from memplan.documents.tree import MappingNode, ScalarNode

__all__ = ["NAME", "edits", "read", "recognises"]

NAME = "torchtitan"
_TABLES = ("job", "training", "parallelism", "activation_checkpoint", "metrics", "lr_scheduler")


def recognises(document: Document) -> int:
    """Several of torchtitan's tables, and a model of its that is a decoder of text."""
    root = document.root
    if not isinstance(root, MappingNode) or sum(root.item(name) is not None for name in _TABLES) < 2:
        return 0
    model = root.get("model")
    name = model.get("name") if isinstance(model, MappingNode) else None
    if model is None or name is None:
        return 4
    return 4 if isinstance(name, ScalarNode) and name.value in MODELS else 0
