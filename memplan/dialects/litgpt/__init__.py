"""litgpt YAML: the arguments of ``litgpt finetune_lora``, ``finetune_full`` and ``pretrain``.

jsonargparse reads the file into the parameters of the command's ``setup`` function; a key it lacks is an
error, one the file lacks has the function's default. Which command it is for shows from the keys. Facts come
from litgpt 0.5.13 (litgpt/finetune/lora.py, finetune/full.py, pretrain.py, args.py).
"""

from __future__ import annotations

from memplan.dialects.litgpt.read import read
from memplan.dialects.litgpt.write import edits
from memplan.dialects.reading import Document
from memplan.documents.tree import MappingNode

__all__ = ["NAME", "edits", "read", "recognises"]

NAME = "litgpt"
_TRAIN = (
    "global_batch_size",
    "micro_batch_size",
    "lr_warmup_steps",
    "max_seq_length",
    "max_tokens",
    "save_interval",
)
_OTHERS = ("lora_r", "quantize", "logger_name", "out_dir")


def recognises(document: Document) -> int:
    """A checkpoint or a model's name, and ``train`` with one of litgpt's arguments."""
    root = document.root
    if not isinstance(root, MappingNode) or not any(
        root.item(key) for key in ("checkpoint_dir", "model_name")
    ):
        return 0
    train = root.get("train")
    if isinstance(train, MappingNode):
        return 4 * any(train.item(key) for key in _TRAIN)
    return 3 * all(root.item(key) for key in ("checkpoint_dir", "out_dir")) * any(map(root.item, _OTHERS))
