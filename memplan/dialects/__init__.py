"""One module per config format: document paths to workload fields, and back.

A new dialect is one module here and one entry in ``DIALECTS``. A module is imported when a document has
one of its marks, or when it is asked for by name: most runs need one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import cast

from memplan.dialects.reading import Dialect, Document, FieldChange, Reading
from memplan.documents.tree import Language, MappingNode
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import AmbiguousKeyError, Location, UnknownNameError, UnrecognisedError

DIALECTS: dict[str, tuple[str, ...]] = {
    "native": ("memplan",),
    "manifest": ("memplan", "memplan.yaml", "memplan.yml"),
    "axolotl": ("base_model",),
    "llamafactory": ("finetuning_type", "template", "peft_config", "kernel_config", "dist_config"),
    "ms_swift": (
        "tuner_type",
        "train_type",
        "rlhf_type",
        "attn_impl",
        "quant_method",
        "load_data_args",
        "stream",
    ),
    "oumi": (
        "training",
        "engine",
        "generation",
        "tasks",
        "tuning",
        "method",
        "judge_params",
        "strategy_params",
        "analyzers",
    ),
    "torchtune": ("checkpointer", "tokenizer"),
    "litgpt": ("checkpoint_dir", "model_name"),
    "accelerate": ("distributed_type",),
    "trl": ("model_name_or_path",),
    "hf_trainer": ("block_size", "train_file", "validation_file"),
    "open_instruct": ("use_slow_tokenizer", "with_tracking", "checkpointing_steps", "dataset_mixer_list"),
    "peft_adapter": ("peft_type",),
    "deepspeed": ("zero_optimization", "train_micro_batch_size_per_gpu", "train_batch_size"),
    "torchtitan": ("activation_checkpoint", "parallelism"),
    "gpt_neox": ("num_layers", "num-layers"),
    "nanogpt": ("block_size", "n_layer", "n_embd", "init_from"),
    "lightning": ("trainer",),
    "hydra": ("defaults", "hydra", "_target_"),
    "hf_config": ("model_type", "architectures"),
}
"""Every dialect there is, with its marks: top-level keys or a file name, one of which its documents have."""

_LANGUAGES: dict[Language, tuple[str, ...]] = {
    Language.TOML: ("torchtitan",),
    Language.PYTHON: ("nanogpt",),
    Language.MODELFILE: (),
}
"""Dialects of languages that hardly any config is in; the others are written in YAML or JSON."""

_SURE = 4
"""A dialect with this score has marks that no other format has: nothing else is tried."""


def load(name: str) -> Dialect:
    """The module of a dialect."""
    return cast(Dialect, import_module(f"memplan.dialects.{name}"))


def named(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        UnknownNameError: there is none; the nearest are offered.
    """
    if name in DIALECTS:
        return load(name)
    raise UnknownNameError.nearest("dialect", name, DIALECTS, hint=f"one of {', '.join(DIALECTS)}")


def detect(document: Document) -> Dialect:
    """The dialect whose keys a document shows most specifically.

    Raises:
        UnrecognisedError: no dialect recognises it.
        ForeignFormatError: a format that is not planned is shown more specifically.
        AmbiguousKeyError: two recognise it equally well; both are named.
    """
    scores = {name: load(name).recognises(document) for name in _marked(document)}
    best = max(scores.values(), default=0)
    if best < _SURE:
        from memplan.dialects import foreign

        other = foreign.recognised(document)
        if other is not None and other.score > best:
            raise foreign.refusal(document, other)
    if best == 0:
        raise _unrecognised(document)
    winners = [name for name, score in scores.items() if score == best]
    if len(winners) > 1:
        raise AmbiguousKeyError(
            f"{document.source.path} could be {' or '.join(winners)}",
            hint=" or ".join(f"--dialect {name}" for name in winners),
        )
    return named(winners[0])


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """How to write changes into the files a reading was made from.

    Each change is ``(field, before, after)``; a change that cannot be written, or whose value was given
    on the command line, comes back as advice with the reason. A value goes to the file of the job that
    holds it, and to every other that states it as well.
    """
    given = {override.partition("=")[0].strip() for override in reading.overrides}
    writable = [change for change in changes if change[0] not in given]
    held = frozenset[str]().union(*(companion.holds for companion in reading.companions))
    own = [change for change in writable if _first(change) not in held]
    written, advised = named(reading.dialect).edits(reading, own)
    refused = {advice.field for advice in advised}
    for companion in reading.companions:
        stated = companion.holds | companion.repeats
        asked = [change for change in writable if _first(change) in stated and change[0] not in refused]
        beside = replace(reading, document=companion.document)
        more, refusals = load(companion.dialect).edits(beside, asked)
        written, advised = (*written, *more), (*advised, *refusals)
    # What only writes is not imported by those who read.
    from memplan.dialects import environment, writing

    shadowed = tuple(
        Advice(
            field=name,
            message=f"set {name} to {writing.shown(after)}: its value came from --set, not from the file",
        )
        for name, _, after in changes
        if name in given
    )
    return written, (*environment.exported(reading, changes, advised), *shadowed)


def _first(change: FieldChange) -> str:
    return change[0].partition(".")[0]


def _marked(document: Document) -> Iterator[str]:
    root = document.root
    shown = {document.path.name, *(root.keys() if isinstance(root, MappingNode) else ())}
    tried = _LANGUAGES.get(root.language, tuple(DIALECTS))
    return (name for name in tried if shown.intersection(DIALECTS[name]))


def _unrecognised(document: Document) -> UnrecognisedError:
    marks = ", ".join(f"`{marks[0]}` ({name})" for name, marks in DIALECTS.items())
    return UnrecognisedError(
        f"{document.source.path} is not a config memplan knows",
        location=Location(path=document.source.path, line=1),
        expected=f"a key such as {marks}",
        hint="declare where its values live in a memplan.yaml and give that"
        if document.root.language is Language.PYTHON
        else "name the dialect with --dialect if the file is one of these",
    )
