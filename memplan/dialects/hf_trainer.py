"""transformers' own example scripts: the Trainer's arguments with those of ``run_clm.py``, in JSON or YAML.

Source: ``ModelArguments`` and ``DataTrainingArguments`` in examples/pytorch/language-modeling/run_clm.py and
src/transformers/training_args.py (5.23). The file goes through ``HfArgumentParser``, which refuses keys it
does not know. Weights are loaded in the dtype of their files unless ``dtype`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from memplan.dialects import models, table, trainer
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, FieldChange, Intake, Origin, Reading
from memplan.dialects.trainer import Arguments, Model
from memplan.documents.tree import MappingNode
from memplan.domain.edit import Advice, Edit

NAME = "hf_trainer"
_MARKS = ("block_size", "train_file", "validation_file")
_LONGEST = 1024
_UNSAID = "what the tokenizer takes; where that is more than the model does, 1024"

ARGUMENTS = Arguments(length=("block_size",), length_default=_LONGEST, attention=("attn_implementation",))


def recognises(document: Document) -> int:
    """``model_name_or_path`` with an argument of the example scripts."""
    root = document.root
    if not isinstance(root, MappingNode) or root.item("model_name_or_path") is None:
        return 0
    return 4 if any(root.item(mark) for mark in _MARKS) else 0


def read(document: Document, intake: Intake) -> Reading:
    """The full training run that a file of the example scripts describes.

    Raises:
        UnknownNameError, FileAccessError: the model is neither known nor a local directory.
        FieldError: a value that decides memory has the wrong type or range.
    """
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    keys = Keys(root=root, lenient=True)
    shape = trainer.named(keys, ("model_name_or_path",), document.path.parent, intake)
    params = trainer.weights(keys, ("dtype", "torch_dtype"), shape, None, "transformers' default")
    run = trainer.workload(keys, ARGUMENTS, Model(shape=shape, params=params))
    keys.origins["adapter"] = Origin(how="default", note="all parameters are trained")
    if keys.get(*ARGUMENTS.length) is None:
        run = run.changed("sequence.length", min(_LONGEST, shape.max_position_embeddings))
        keys.origins["sequence.length"] = Origin(how="assumed", note=_UNSAID)
    asked = bool(shape.config.get("output_router_logits"))
    return trainer.reading(document, keys, NAME, run, intake, balanced=asked)


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits; the scripts have no key for attention, which the model's own config decides."""
    written = trainer.writers(ARGUMENTS)
    root = reading.document.root
    if not isinstance(root, MappingNode) or root.item("attn_implementation") is None:
        del written["attention"]
    return table.edits(reading, changes, written, "transformers' script")
