"""Hugging Face ``config.json``: a model, not a run. How it is run is assumed, and said so.

The file describes weights that exist, so nothing in it may be changed: every change is advice.
"""

from __future__ import annotations

from collections.abc import Sequence

from memplan.dialects import assumed, models, writing
from memplan.dialects.fields import Value
from memplan.dialects.reading import Document, FieldChange, Intake, Origin, Reading
from memplan.documents.tree import Language, MappingNode
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Advice, Edit

NAME = "hf_config"


def recognises(document: Document) -> int:
    """A JSON object with ``model_type`` or ``architectures``."""
    root = document.root
    if not isinstance(root, MappingNode) or root.language is not Language.JSON:
        return 0
    return 2 if root.item("model_type") else 1 if root.item("architectures") else 0


def read(document: Document, intake: Intake) -> Reading:
    """A full training run of the model, micro-batch 1, in the dtype of its weights.

    Raises:
        FieldError, UnknownNameError: at the field that is missing, wrong or not supported.
    """
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    architecture = models.of_config(root, intake)
    if document.path.name == "config.json":
        architecture = models.weighed(architecture, document.path.parent, root.location, intake)
    params, origin = _params(root, architecture)
    workload = assumed.workload(architecture, params)
    origins = {
        "model": Origin(location=root.location, how="written"),
        "precision.params": origin,
        **assumed.origins(workload),
    }
    return Reading(
        path=document.path,
        dialect=NAME,
        workload=workload,
        origins=origins,
        warnings=(
            f"{document.source.path} describes a model, not a run: assumed full training in {params}, "
            f"micro-batch 1, {workload.sequence.length} tokens, AdamW (foreach), no checkpointing; "
            "change it with --set",
        ),
        document=document,
    )


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """Nothing is ever written to a model's config."""
    reason = f"{reading.document.source.path} describes the model; set this where the run is configured"
    return (), tuple(writing.unwritable(change, reason) for change in changes)


def _params(root: Value, architecture: Architecture) -> tuple[Dtype, Origin]:
    """``dtype`` (transformers 5) wins over ``torch_dtype``; else that of the weights beside it, else bf16."""
    entries = root.entries(repeats=True)
    for key in ("dtype", "torch_dtype"):
        if key in entries and not entries[key].is_null and entries[key].written() != "auto":
            return entries[key].dtype(), Origin(location=entries[key].location, how="written")
    weighed = architecture.config.get("dtype")
    if isinstance(weighed, str) and weighed != "auto":
        return Dtype.parse(weighed), Origin(how="default", note="the dtype of the weights beside the file")
    return Dtype.BF16, Origin(how="assumed", note="the file names no dtype; bf16 is usual")
