"""What a torchtune file says about memory."""

from __future__ import annotations

from memplan.dialects import assumed, models, omegaconf, table
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, Intake, Origin, Reading
from memplan.dialects.torchtune import settings
from memplan.dialects.torchtune.adapters import adapter, quantization
from memplan.dialects.torchtune.builders import Builder, builder
from memplan.dialects.torchtune.recipe import Kind, distributed, kind
from memplan.dialects.torchtune.unmodelled import teacher, unmodelled
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.errors import UnknownNameError
from memplan.domain.framework import Framework
from memplan.domain.harm import Harm
from memplan.domain.host import HostUse
from memplan.domain.workload import Batch, Precision, Sequence, Task, Unmodelled, Workload

_ARGUMENTS = (
    "_component_",
    "lora_attn_modules",
    "apply_lora_to_mlp",
    "apply_lora_to_output",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "use_dora",
    "quantize_base",
)
"""Arguments of a model's builder that are read, or decide no memory."""

GROUPED = "batches of reinforcement learning are groups of answers, which memplan does not take apart"
IN_BACKWARD = "optimizer_in_bwd updates after every micro-batch, so that none can be accumulated"


def read(document: Document, intake: Intake) -> Reading:
    """The run that a torchtune file describes.

    Raises:
        UnknownNameError: memplan doesn't know the model's builder, or offline the model it makes.
        FieldError: a value that decides memory has the wrong type or range, a combination that the recipes
            refuse, or a recipe that neither trains nor answers.
    """
    document = omegaconf.loaded(document)
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    keys = Keys(root=root)
    what = kind(keys)
    name = keys.get("model._component_")
    if name is None:
        raise root.fail("model has no _component_", expected="such as torchtune.models.llama3_1.llama3_1_8b")
    built = builder(keys, name)
    shape = _shape(keys, name, built, intake)
    weights = settings.dtype(keys)
    gaps = (*unmodelled(keys, what), *_teacher(keys, intake, weights))
    workload = Workload(
        model=shape,
        task=Task.TRAIN if what.trains else Task.GENERATE,
        precision=Precision(params=weights),
        adapter=adapter(keys, built, shape.linears, weights),
        quantization=quantization(keys, built, weights),
        framework=Framework(code="torchtune"),
        unmodelled=gaps,
    )
    _strange(keys)
    several = distributed(keys)
    workload = _trained(keys, workload, several) if what.trains else _asked(keys, workload, what)
    why = _batch_reason(keys, what)
    return keys.reading(document, "torchtune", workload, Harm.BEHAVIOUR if why else None, why)


def _shape(keys: Keys, name: Value, built: Builder, intake: Intake) -> Architecture:
    """What a builder makes; ``--model`` stands in for what is not known offline."""
    try:
        keys.origins["model"] = Origin(location=name.location, how="written", note=built.hub_id)
        return models.of_hub(built.hub_id, name, intake)
    except UnknownNameError:
        if intake.given.model is None:
            raise
    keys.origins["model"] = Origin(how="written", note=assumed.BY_OPTION)
    return assumed.named(intake.given.model, intake)


def _batch_reason(keys: Keys, what: Kind) -> str:
    """Why another micro-batch with more accumulation is another experiment, if it is."""
    if what is Kind.REINFORCE:
        return GROUPED
    return IN_BACKWARD if what.trains and keys.flag("optimizer_in_bwd") else ""


def _trained(keys: Keys, workload: Workload, several: bool) -> Workload:
    found = table.settle(keys, (settings.MICRO, settings.ACCUMULATION))
    batch = Batch(micro=found["batch.micro"], accumulation=found["batch.accumulation"])
    if batch.accumulation > 1 and keys.flag("optimizer_in_bwd"):
        value = keys.get("optimizer_in_bwd") or keys.root
        raise value.fail(
            f"torchtune refuses it with gradient_accumulation_steps: {batch.accumulation}",
            expected="gradient_accumulation_steps: 1",
        )
    assert isinstance(workload.model, Architecture)
    return table.changed(
        workload,
        {
            "batch": batch,
            "sequence": Sequence(length=settings.length(keys, workload.model.max_position_embeddings)),
            "optimizer": settings.optimizer(keys, sharded=several),
            "loss": settings.loss(keys),
            "checkpointing": settings.checkpointing(keys, selective=several and workload.adapter is None),
            "activation_offload": settings.activation_offload(keys),
            "evaluation": settings.evaluation(keys),
            "world": settings.world(keys, several=several),
            "host": HostUse(loading="state_dict", workers=0, pinned=False),
            "saving": settings.saving(keys),
        },
    )


def _asked(keys: Keys, workload: Workload, what: Kind) -> Workload:
    assert isinstance(workload.model, Architecture)
    answers = what is Kind.EVALUATE
    micro = table.settle(keys, (settings.ANSWERED,))[settings.MICRO.field] if answers else 1
    return table.changed(
        workload,
        {
            "batch": Batch(micro=micro),
            "generate": settings.generate(keys, what, workload.model.max_position_embeddings),
        },
    )


def _teacher(keys: Keys, intake: Intake, dtype: Dtype) -> tuple[Unmodelled, ...]:
    value = keys.get("teacher_model._component_")
    if value is None:
        return ()
    model = models.of_hub(builder(keys, value).hub_id, value, intake)
    return (teacher(model.parameters * dtype.itemsize),)


def _strange(keys: Keys) -> None:
    """Say which arguments of the model's builder are not looked at."""
    for name, value in Value.entries(keys.get("model") or keys.root, repeats=True).items():
        if name not in _ARGUMENTS:
            keys.warn(value, f"model.{name} is not modelled")
