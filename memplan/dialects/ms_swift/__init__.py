"""ms-swift YAML: arguments of ``swift sft``, ``pt`` and ``rlhf`` (the Trainer trains), or of ``infer``.

Facts come from ms-swift 4.6. The file goes through PyYAML's safe loader; every value becomes text again and
an argument of the command line (``parse_yaml_args`` in swift/cli/main.py), so quoted numbers are numbers.
"""

from __future__ import annotations

from memplan.dialects.ms_swift.read import read
from memplan.dialects.ms_swift.write import edits
from memplan.dialects.reading import Document
from memplan.documents.tree import MappingNode, ScalarNode

__all__ = ["NAME", "edits", "read", "recognises"]

NAME = "ms_swift"
_OWN = (
    "tuner_type",
    "train_type",
    "rlhf_type",
    "attn_impl",
    "quant_method",
    "quant_bits",
    "split_dataset_ratio",
    "load_from_cache_file",
)
_ANSWERS = (("load_data_args",), ("stream", "max_new_tokens"))


def recognises(document: Document) -> int:
    """``model`` as text beside a key that no other framework has, or what ``swift infer`` is told."""
    root = document.root
    if not isinstance(root, MappingNode):
        return 0
    if not isinstance(root.get("model"), ScalarNode):
        told = any(all(root.item(mark) is not None for mark in marks) for marks in _ANSWERS)
        return 2 if told and root.item("model") is None else 0
    return 4 if any(root.item(mark) is not None for mark in _OWN) else 0
