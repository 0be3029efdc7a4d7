"""LLaMA-Factory YAML: fine-tuning with the Trainer, or the newer schema of its version 1.

Facts come from LLaMA-Factory 0.9.5 (src/llamafactory/hparams and src/llamafactory/v1/config). Files go
through OmegaConf and ``HfArgumentParser.parse_dict``, which refuses a key that it doesn't know.
"""

from __future__ import annotations

from collections.abc import Sequence

from memplan.dialects.fields import Value
from memplan.dialects.llamafactory import newer, older
from memplan.dialects.models import required_mapping
from memplan.dialects.omegaconf import loaded
from memplan.dialects.reading import Document, FieldChange, Intake, Reading
from memplan.documents.tree import MappingNode
from memplan.domain.edit import Advice, Edit

__all__ = ["NAME", "edits", "read", "recognises"]

NAME = "llamafactory"

_NEWER = ("peft_config", "kernel_config", "dist_config", "quant_config", "init_config")
"""Sections of version 1."""

_BESIDE = ("micro_batch_size", "train_dataset", "cutoff_len", "sample_backend", *_NEWER)
_OLDER = ("stage", "cutoff_len", "infer_backend", "export_dir", "dataset_dir", "adapter_name_or_path")


def recognises(document: Document) -> int:
    """``finetuning_type``, or ``template`` beside others of its own keys, or the sections of version 1."""
    root = document.root
    if not isinstance(root, MappingNode):
        return 0
    if _is_newer(root):
        return 4 if sum(root.item(mark) is not None for mark in _BESIDE) > 1 else 3
    if root.item("finetuning_type") is not None:
        return 4
    return 4 if root.item("template") is not None and any(root.item(mark) for mark in _OLDER) else 0


def read(document: Document, intake: Intake) -> Reading:
    """The training run or the generation a LLaMA-Factory file describes.

    Raises:
        UnknownNameError: the model is neither known offline nor a local directory.
        FieldError: a value that decides memory has the wrong type or range, or asks for something
            that is not modelled and would make the answer wrong (exports, other engines).
        DocumentError: a key is written twice.
    """
    document = loaded(document)
    root = required_mapping(Value(source=document.source, key="", node=document.root))
    if _is_newer(document.root):
        return newer.read(document, root, intake)
    return older.read(document, root, intake)


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits, all that share a first name together or not at all."""
    if _is_newer(reading.document.root):
        return newer.edits(reading, changes)
    return older.edits(reading, changes)


def _is_newer(root: object) -> bool:
    if not isinstance(root, MappingNode) or root.item("model") is None:
        return False
    return root.item("model_name_or_path") is None and any(root.item(mark) is not None for mark in _NEWER)
