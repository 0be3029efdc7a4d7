"""TRL: fine-tuning and preference training of one model, described in YAML for ``TrlParser``.

The same keys serve the recipes of alignment-handbook and open-r1, which add data sets and rewards. The file
goes through PyYAML's safe loader into argparse: quoted numbers count as numbers, and TRL refuses keys it does
not know. Which trainer runs is said on the command line, not in the file; it shows in the keys.
"""

from __future__ import annotations

from memplan.dialects.reading import Document
from memplan.dialects.trl.read import read
from memplan.dialects.trl.write import edits
from memplan.documents.tree import MappingNode

__all__ = ["NAME", "edits", "read", "recognises"]

NAME = "trl"
_ARGUMENTS = ("learning_rate", "per_device_train_batch_size", "output_dir", "num_train_epochs", "max_steps")
_OWN = ("use_peft", "dataset_name", "dataset_mixture", "dataset_mixer", "attn_implementation", "beta")


def recognises(document: Document) -> int:
    """``model_name_or_path`` with an argument of the Trainer; surer with a key of TRL's scripts."""
    root = document.root
    if not isinstance(root, MappingNode) or root.item("model_name_or_path") is None:
        return 0
    if not any(root.item(mark) for mark in _ARGUMENTS):
        return 0
    return 3 if any(root.item(mark) for mark in _OWN) else 2
