"""A training run of a model when a file describes the model, or what it runs on, and not the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from memplan.dialects import models
from memplan.dialects.fields import Value
from memplan.dialects.reading import Document, Intake, Origin
from memplan.documents.source import Source
from memplan.documents.tree import Language, ScalarNode
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Span
from memplan.domain.errors import FieldError, Location
from memplan.domain.workload import Batch, Outputs, Precision, Sequence, Workload

LENGTH = 2048
"""Tokens per sequence when nobody says: the shorter of this and what the model can take."""

BY_OPTION = "given by --model"
"""The origin of a model that a file does not name."""


def workload(architecture: Architecture, params: Dtype) -> Workload:
    """A full training run of a model, micro-batch 1, in one dtype, in a plain loop."""
    return Workload(
        model=architecture,
        precision=Precision(params=params),
        batch=Batch(micro=1),
        sequence=Sequence(length=min(LENGTH, architecture.max_position_embeddings)),
        outputs=Outputs.KEPT,
    )


def origins(run: Workload) -> dict[str, Origin]:
    """Why every value of such a run is what it is."""
    return {field: Origin(how="assumed", note=why) for field, why in _reasons(run.sequence.length).items()}


def model(document: Document, intake: Intake) -> Architecture:
    """The model that the command line names for a file that names none.

    Raises:
        FieldError: it names none either.
        UnknownNameError, FileAccessError: it is neither a folder with a ``config.json`` nor a known hub id.
    """
    given = intake.given.model
    if given is None:
        raise FieldError(
            f"{document.source.path} names no model",
            location=Location(path=document.source.path, line=1),
            expected="a model to train: this file says how a run is spread, not what is trained",
            hint="give --model ID|DIR, or the training config that goes with it and --with this file",
        )
    return named(given, intake)


def named(given: str, intake: Intake) -> Architecture:
    """The model of ``--model``: a folder from where one stands, or a hub id."""
    source = Source.of(given, "--model")
    node = ScalarNode(value=given, text=given, span=Span(0, len(given)), language=Language.YAML)
    return models.of_name(Value(source=source, key="--model", node=node), intake, Path())


def dtype_of(config: Mapping[str, object]) -> Dtype | None:
    """The dtype of a model's weights as its ``config.json`` names it: ``dtype`` before ``torch_dtype``."""
    for key in ("dtype", "torch_dtype"):
        found = config.get(key)
        if isinstance(found, str) and found != "auto":
            try:
                return Dtype.parse(found)
            except ValueError:
                return None
    return None


def _reasons(length: int) -> dict[str, str]:
    return {
        "task": "training",
        "batch.micro": "one sequence",
        "batch.accumulation": "no accumulation",
        "sequence.length": f"the shorter of {LENGTH} and max_position_embeddings: {length}",
        "optimizer.name": "AdamW",
        "optimizer.implementation": "PyTorch's default on a GPU",
        "attention": "transformers' default",
        "adapter": "all parameters are trained",
        "quantization": "weights as loaded",
        "checkpointing": "transformers' default",
        "loss": "transformers' default",
        "outputs": "a plain loop, which holds the model's outputs while backward runs",
        "precision.autocast": "pure training in the dtype of the weights",
    }
