"""torchtune YAML: one file per run of a recipe, with a ``_component_`` for everything that is built.

The file goes through OmegaConf; top-level keys that a recipe doesn't ask for are ignored, those beside a
``_component_`` are its arguments. Which recipe runs is said on the command line, and by custom in a comment
at the top. Facts come from torchtune 0.6.1 and its main branch of April 2026 (recipes/*.py).
"""

from __future__ import annotations

from memplan.dialects.reading import Document
from memplan.dialects.torchtune.read import read
from memplan.dialects.torchtune.write import edits
from memplan.documents.tree import MappingNode, ScalarNode

__all__ = ["NAME", "edits", "read", "recognises"]

NAME = "torchtune"
_BUILT = ("model", "tokenizer", "checkpointer", "optimizer")


def recognises(document: Document) -> int:
    """A ``_component_`` below one of the keys every recipe has; surer with one of torchtune's own."""
    root = document.root
    if not isinstance(root, MappingNode):
        return 0
    named = [built.get("_component_") for key in _BUILT if isinstance(built := root.get(key), MappingNode)]
    words = [node.value for node in named if isinstance(node, ScalarNode)]
    own = any(isinstance(word, str) and word.startswith("torchtune.") for word in words)
    return 5 if own else 3 * bool(words)
