"""What a litgpt file says about memory."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects import models
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.litgpt import settings
from memplan.dialects.litgpt.model import model
from memplan.dialects.litgpt.settings import Command
from memplan.dialects.reading import Document, Intake, Origin, Reading
from memplan.documents import yaml
from memplan.documents.tree import Language
from memplan.documents.yaml_resolvers import Resolver
from memplan.domain.framework import Framework
from memplan.domain.host import HostUse
from memplan.domain.workload import Checkpointing, Outputs, Sequence, Workload


def read(document: Document, intake: Intake) -> Reading:
    """The run that a litgpt file describes.

    Raises:
        UnknownNameError: the model is neither known offline nor a local folder.
        DocumentError: the file is not YAML as jsonargparse reads it.
        FieldError: a value that decides memory has the wrong type or range, or litgpt refuses it.
    """
    if document.root.language is Language.YAML:
        document = replace(document, root=yaml.parse(document.source, resolver=Resolver.JSONARGPARSE))
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    keys = Keys(root=root)
    what = settings.command(keys)
    shape = model(keys, intake, document.path.parent)
    size = settings.devices(keys, intake.given.gpus)
    numbers = settings.precision(keys)
    weights = settings.quantization(keys, what, numbers, size)
    workload = Workload(
        model=shape,
        precision=numbers,
        batch=settings.batch(keys, what, size),
        sequence=Sequence(length=settings.length(keys, what, shape.max_position_embeddings)),
        optimizer=settings.optimizer(keys, what, quantized=weights is not None),
        adapter=settings.adapter(keys, what, numbers.params, shape.linears),
        quantization=weights,
        checkpointing=_checkpointing(keys, what, size),
        world=settings.world(what, size),
        framework=Framework(code="litgpt"),
        host=HostUse(loading="state_dict", workers=settings.workers(keys), pinned=False),
        outputs=Outputs.KEPT,
        unmodelled=settings.unmodelled(keys, what),
    )
    keys.origins["framework"] = Origin(how="assumed", note=f"litgpt {what}, as of 0.5.13")
    return keys.reading(document, "litgpt", workload)


def _checkpointing(keys: Keys, what: Command, size: int) -> Checkpointing:
    """Every block when finetuning on several GPUs, none otherwise: there is no key."""
    every = int(size > 1 and what is not Command.PRETRAIN)
    keys.note("checkpointing", None, "litgpt's own: every block when finetuning on several GPUs")
    return Checkpointing(every=every)
