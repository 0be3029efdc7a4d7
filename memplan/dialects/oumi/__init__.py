"""oumi YAML: training with the Trainer, TRL or a loop of its own, and generation.

Facts come from oumi 0.9 (src/oumi/core/configs). Files go through OmegaConf into dataclasses, which refuse a
key that they don't know; ``${...}`` is not interpolated.
"""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.models import required_mapping
from memplan.dialects.omegaconf import loaded
from memplan.dialects.oumi import gaps, generation, training
from memplan.dialects.oumi.write import edits
from memplan.dialects.reading import Document, Intake, Reading
from memplan.documents.tree import MappingNode

__all__ = ["NAME", "edits", "read", "recognises"]

NAME = "oumi"
_WITH_MODEL = ("training", "engine", "generation", "tasks", "tuning", "method")
_ALONE = (
    ("judge_params", "inference_config"),
    ("judge_params", "rule_judge_params"),
    ("strategy_params", "inference_config"),
    ("analyzers", "dataset_path"),
)


def recognises(document: Document) -> int:
    """``model.model_name`` beside a section of oumi's, or the sections of its other commands."""
    root = document.root
    if not isinstance(root, MappingNode):
        return 0
    if any(all(root.item(name) is not None for name in pair) for pair in _ALONE):
        return 4
    model = root.get("model")
    if not isinstance(model, MappingNode) or model.item("model_name") is None:
        return 0
    return 4 if any(root.item(name) is not None for name in _WITH_MODEL) else 0


def read(document: Document, intake: Intake) -> Reading:
    """The training run or the generation an oumi config describes.

    Raises:
        UnknownNameError: the model is neither known nor a local directory.
        FieldError: a value that decides memory has the wrong type or range, or asks for something
            that is not modelled and would make the answer wrong (servers, judges, evaluations).
        DocumentError: a key is written twice.
    """
    document = loaded(document, interpolates=False)
    root = required_mapping(Value(source=document.source, key="", node=document.root))
    keys = Keys(root=root, lenient=True)
    gaps.refuse(keys)
    if keys.get("training") is not None or keys.get("data") is not None:
        return training.read(document, keys, intake)
    return generation.read(document, keys, intake)
