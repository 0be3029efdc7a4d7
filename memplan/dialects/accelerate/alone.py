"""An accelerate config by itself: a run of a model that the command line names."""

from __future__ import annotations

from memplan.dialects import assumed, models
from memplan.dialects.accelerate.launch import launched
from memplan.dialects.fields import Value
from memplan.dialects.reading import Document, Intake, Origin, Reading
from memplan.domain.dtype import Dtype


def read(document: Document, intake: Intake) -> Reading:
    """Full training of the model given, launched as the config says; the rest is assumed, and said so.

    Raises:
        FieldError: no model is given, accelerate would refuse the config, or a value is wrong.
    """
    models.required_mapping(Value(source=document.source, key="", node=document.root))
    architecture = assumed.model(document, intake)
    params = assumed.dtype_of(architecture.config) or Dtype.BF16
    run = assumed.workload(architecture, params)
    origins = {
        **assumed.origins(run),
        "model": Origin(how="written", note=assumed.BY_OPTION),
        "precision.params": Origin(how="assumed", note="the dtype of the model's files"),
        "precision.autocast": Origin(how="default", note="accelerate's default: no mixed precision"),
    }
    warning = (
        f"{document.source.path} describes no whole run: assumed full training in {params}, micro-batch 1, "
        f"{run.sequence.length} tokens, AdamW (foreach), no checkpointing; change it with --set"
    )
    reading = Reading(
        path=document.path,
        dialect="accelerate",
        workload=run,
        origins=origins,
        warnings=(warning,),
        document=document,
    )
    return launched(reading, document, intake)
