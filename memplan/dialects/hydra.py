"""Configs of Hydra and OmegaConf whose program memplan does not know: what is written is read by its name.

A file may be one part of what Hydra composes: what its ``defaults`` bring is not read, and named. Values that
others of the list may replace are not edited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memplan.dialects import assumed, models, omegaconf, table, vocabulary
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, FieldChange, Intake, Reading
from memplan.documents.tree import Language, MappingNode, ScalarNode, SequenceNode
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.harm import Harm
from memplan.domain.workload import Batch, Precision, Unmodelled, Workload
from memplan.domain.workload import Sequence as Tokens

NAME = "hydra"
_MARKS = ("defaults", "hydra", "_target_")
_PRECISION = ("trainer.precision", "train.precision", "training.precision", "precision")
_SELF = "_self_"


def recognises(document: Document) -> int:
    """YAML with one of Hydra's own keys that names a model of the hub."""
    root = document.root
    if not isinstance(root, MappingNode) or root.language is not Language.YAML:
        return 0
    marked = any(root.item(mark) for mark in _MARKS)
    return 2 if marked and vocabulary.names_model(root) else 0


def read(document: Document, intake: Intake) -> Reading:
    """A full training run of the model that the file names; what it leaves open is assumed, and said so.

    Raises:
        FieldError, DocumentError: nothing names a model, a value is wrong, or a key is written twice.
        AmbiguousKeyError: two batch sizes or lengths differ.
    """
    document = omegaconf.loaded(document)
    keys = Keys(root=models.required_mapping(Value(source=document.source, key="", node=document.root)))
    named = vocabulary.model(keys)
    if intake.given.model is None and named is not None:
        architecture = models.of_name(named, intake, document.path.parent)
        keys.note("model", named)
    else:
        architecture = assumed.model(document, intake)
    run = assumed.workload(architecture, vocabulary.PRECISIONS["32"][0])
    keys.origins |= {**assumed.origins(run), **keys.origins}
    params, autocast = vocabulary.precision(keys, *_PRECISION)
    for others in _composed(keys):
        span = others.node.span
        name = " ".join(document.source.text[span.start : span.end].split())
        keys.warn(others, f"{name} is composed in by Hydra, and not read")
    workload = Workload(
        model=architecture,
        precision=Precision(params=params, autocast=autocast),
        batch=_batch(keys),
        sequence=_length(keys, run),
        outputs=run.outputs,
        unmodelled=(_CODE,),
    )
    return keys.reading(
        document,
        NAME,
        workload,
        Harm.NUMERIC,
        "the program is not known: its loss may be averaged by micro-batch",
    )


_CODE = Unmodelled(
    reason="the program is not known: counted as a plain loop of AdamW over transformers' model",
    shrinks=("activations", "logits_and_loss", "optimizer_state"),
    unbounded=True,
)


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """Batch sizes and lengths that are written here, and that nothing composed in may replace."""
    return table.edits(reading, changes, {"batch": _write_batch, "sequence": _write_length}, "Hydra")


def _batch(keys: Keys) -> Batch:
    sizes = []
    for field, names in (("batch.micro", vocabulary.MICRO), ("batch.accumulation", vocabulary.ACCUMULATION)):
        value = vocabulary.whole(keys, names)
        sizes.append(1 if value is None else value.whole())
        if value is not None:
            keys.note(field, value)
    return Batch(micro=sizes[0], accumulation=sizes[1])


def _length(keys: Keys, run: Workload) -> Tokens:
    value = vocabulary.whole(keys, vocabulary.LENGTH)
    if value is None:
        return run.sequence
    keys.note("sequence.length", value)
    return Tokens(length=value.whole())


def _composed(keys: Keys) -> Iterator[Value]:
    """Entries of ``defaults`` other than this file itself."""
    value = keys.get("defaults")
    if value is not None and isinstance(value.node, SequenceNode):
        for item in value.items():
            if not isinstance(item.node, ScalarNode) or item.node.value != _SELF:
                yield item


def _replaceable(keys: Keys) -> bool:
    """Whether entries stand behind ``_self_``; without it the file itself comes last (Hydra 1.2)."""
    value = keys.get("defaults")
    if value is None or not isinstance(value.node, SequenceNode):
        return False
    entries = [item.value if isinstance(item, ScalarNode) else None for item in value.node.items]
    return _SELF in entries and entries[-1] != _SELF


def _put(reading: Reading, names: tuple[str, ...], wanted: int) -> list[Edit]:
    keys = Keys(root=Value(source=reading.document.source, key="", node=reading.document.root))
    value = vocabulary.whole(keys, names)
    if value is None:
        raise EditRefusedError("the file has no key for it, and the program's own name for it is not known")
    if _replaceable(keys):
        raise EditRefusedError(
            f"what `defaults` brings in may replace it: override it, {value.key}={wanted}",
            location=value.location,
        )
    return table.put(reading, (value.key,), wanted)


def _write_batch(reading: Reading, after: Workload) -> list[Edit]:
    before, wanted = reading.workload.batch, after.batch
    found: list[Edit] = []
    if wanted.micro != before.micro:
        found += _put(reading, vocabulary.MICRO, wanted.micro)
    if wanted.accumulation != before.accumulation:
        found += _put(reading, vocabulary.ACCUMULATION, wanted.accumulation)
    return found


def _write_length(reading: Reading, after: Workload) -> list[Edit]:
    if after.sequence == reading.workload.sequence:
        return []
    return _put(reading, vocabulary.LENGTH, after.sequence.length)
