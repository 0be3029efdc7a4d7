"""PEFT's ``adapter_config.json``: an adapter that exists, not a run. Training it is assumed, and said so.

The file describes weights that exist, so nothing in it may be changed: every change is advice. Source:
``PeftConfig`` and ``LoraConfig`` in peft src/peft/config.py and src/peft/tuners/lora/config.py (0.21).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.dialects import assumed, models, writing
from memplan.dialects.contradiction import contradiction
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Companion, Document, FieldChange, Intake, Origin, Reading
from memplan.dialects.trainer.adapters import LoraKeys, lora
from memplan.documents.tree import Language, MappingNode, SequenceNode
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Advice, Edit
from memplan.domain.workload import Adapter

NAME = "peft_adapter"
LORA = LoraKeys(
    rank=("r",),
    dropout=("lora_dropout",),
    targets=("target_modules",),
    copied=("modules_to_save",),
    parameters=("target_parameters",),
)
BASE = "base_model_name_or_path"
IGNORED = {
    "rank_pattern": "every layer is counted with the rank r",
    "layers_to_transform": "every layer is counted as adapted",
    "exclude_modules": "excluded modules are counted as adapted",
    "layer_replication": "replicated layers are counted once",
    "trainable_token_indices": "trained tokens are not counted",
    "lora_bias": "trained biases are not counted",
}
"""Settings that decide bytes and are not simulated, with what is counted instead."""


def recognises(document: Document) -> int:
    """A JSON object with ``peft_type``."""
    root = document.root
    if not isinstance(root, MappingNode) or root.language is not Language.JSON:
        return 0
    return 4 if root.item("peft_type") is not None else 0


def read(document: Document, intake: Intake) -> Reading:
    """Training of this adapter on the model it names, or on the one the command line names.

    Raises:
        FieldError: neither names a model, or the adapter's targets cannot be resolved.
        UnknownNameError: the model is neither known offline nor a local directory.
    """
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    keys = Keys(root=root)
    base = keys.get(BASE)
    shape = assumed.model(document, intake) if base is None else _base(base, document, intake)
    params = assumed.dtype_of(shape.config) or Dtype.BF16
    run = assumed.workload(shape, params)
    keys.origins |= assumed.origins(run)
    keys.note("model", base)
    if base is None:
        keys.origins["model"] = Origin(how="written", note=assumed.BY_OPTION)
    keys.origins["precision.params"] = Origin(how="assumed", note="the dtype of the model's files")
    run = replace(run, adapter=adapter(keys, shape))
    keys.warnings.append(
        f"{document.source.path} describes an adapter, not a run: assumed is training it on a base model in "
        f"{params}, micro-batch 1, {run.sequence.length} tokens, AdamW (foreach), no checkpointing; "
        "change it with --set"
    )
    return keys.reading(document, NAME, run)


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """Nothing is ever written to an adapter's config."""
    reason = f"{reading.document.source.path} describes the adapter; set this where the run is configured"
    return (), tuple(writing.unwritable(change, reason) for change in changes)


def adapted(reading: Reading, document: Document) -> Reading:
    """A reading of a run together with the adapter that lies beside its config.

    A run that has an adapter of its own keeps it; where the ranks differ there is a finding.
    """
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    keys = Keys(root=root, origins=dict(reading.origins), warnings=list(reading.warnings))
    companions = (*reading.companions, Companion(dialect=NAME, document=document))
    own, rank = reading.workload.adapter, keys.get("r")
    if own is not None:
        origin = reading.origins.get("adapter.rank")
        place = origin.location if origin is not None else None
        findings = list(reading.findings)
        if rank is not None and rank.whole() != own.rank:
            outcome = "the training config counts"
            findings.append(
                contradiction(rank.location, f"r is {rank.whole()}", place, f"{own.rank}", outcome)
            )
        return replace(reading, companions=companions, findings=tuple(findings))
    shape = reading.workload.model
    if not isinstance(shape, Architecture):
        return reading
    run = replace(reading.workload, adapter=adapter(keys, shape))
    keys.warn(keys.get("peft_type") or root, "the adapter is trained, and the model frozen")
    return replace(
        reading,
        workload=run,
        origins=keys.origins,
        warnings=tuple(keys.warnings),
        companions=companions,
    )


def adapter(keys: Keys, shape: Architecture) -> Adapter:
    """The adapter; one of another kind than LoRA keeps its name, and bounds instead of figures."""
    keys.note("adapter", keys.get("peft_type"))
    for name, counted in IGNORED.items():
        value = keys.get(name)
        if value is not None and not _empty(value):
            keys.warn(value, f"{name}: {counted}")
    bias = keys.get("bias")
    if bias is not None and bias.written() not in ("none", ""):
        keys.warn(bias, f"bias: {bias.written()}: trained biases are not counted")
    kind = (keys.word("peft_type") or "LORA").lower()
    return replace(lora(keys, LORA, shape), kind=kind)


def _empty(value: Value) -> bool:
    node = value.node
    if isinstance(node, MappingNode | SequenceNode):
        return not node.items
    return value.written().lower() in ("", "false")


def _base(value: Value, document: Document, intake: Intake) -> Architecture:
    return models.of_name(value, intake, document.path.parent)
