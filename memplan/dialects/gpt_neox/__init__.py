"""GPT-NeoX's YAML: JSON with comments in braces, for its own model code under DeepSpeed.

Facts come from neox_args.py, arguments.py and model/transformer.py of May 2026. A run is several such files
merged; one that describes the model can be planned by itself. Dashes and underscores in keys are the same.
"""

from __future__ import annotations

from memplan.dialects.gpt_neox.model import simulated
from memplan.dialects.gpt_neox.names import underscored
from memplan.dialects.gpt_neox.read import read
from memplan.dialects.gpt_neox.write import edits
from memplan.dialects.reading import Document
from memplan.documents.tree import MappingNode

__all__ = ["NAME", "edits", "read", "recognises"]

NAME = "gpt_neox"
_MODEL = ("num_layers", "hidden_size", "num_attention_heads")
_OWN = ("pipe_parallel_size", "model_parallel_size", "pos_emb", "gpt_j_residual", "no_weight_tying")


def recognises(document: Document) -> int:
    """A model's dimensions and keys of GPT-NeoX beside them, for a run that is simulated."""
    if not isinstance(document.root, MappingNode):
        return 0
    root = underscored(document.root)
    if any(root.item(name) is None for name in _MODEL) or not any(root.item(name) for name in _OWN):
        return 0
    return 4 if simulated(root) else 0
