"""Preference training on pairs: chosen and rejected pass through the model together.

A micro-batch of N pairs is 2·N sequences; what is written counts pairs again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from memplan.dialects.fields import Value
from memplan.dialects.reading import Reading
from memplan.dialects.table import Writer
from memplan.dialects.unmodelled import placed
from memplan.domain.edit import Edit
from memplan.domain.errors import ImpossibleError
from memplan.domain.workload import Unmodelled, Workload

_SEQUENCES = 2
WEIGHTS = ("embeddings", "decoder_matrix", "blocks")

SCORES = Unmodelled(
    reason="log-probabilities are counted like cross-entropy of all tokens",
    shrinks=("logits_and_loss",),
    logits=1,
)
REFERENCE = Unmodelled(
    reason="a copy of the model is the reference; its weights and its pass are not in the point estimate",
    grows=(*WEIGHTS, "temporaries"),
    logits=1,
)


def doubled(run: Workload) -> Workload:
    """The run with sequences where its file counts pairs."""
    run = run.changed("batch.micro", _SEQUENCES * run.batch.micro)
    held = run.evaluation
    return run if held is None else run.changed("evaluation.batch", _SEQUENCES * held.batch)


def in_pairs(writers: dict[str, Writer]) -> dict[str, Writer]:
    """The same writers, with batches counted in pairs."""
    return writers | {name: partial(_halving, writers[name]) for name in ("batch", "evaluation")}


def gaps(value: Value, *, reference: bool) -> tuple[Unmodelled, ...]:
    """What comparing log-probabilities adds: the loss itself, and a reference model's weights and pass."""
    scores = placed(value, SCORES)
    return (scores, placed(value, REFERENCE)) if reference else (scores,)


def _halving(write: Writer, reading: Reading, after: Workload) -> list[Edit]:
    """Edits in pairs.

    Raises:
        ImpossibleError: a pair would have to be divided.
    """
    return write(replace(reading, workload=_halved(reading.workload)), _halved(after))


def _halved(run: Workload) -> Workload:
    held = run.evaluation
    if run.batch.micro % _SEQUENCES or (held is not None and held.batch % _SEQUENCES):
        raise ImpossibleError("a pair of completions cannot be divided between two micro-batches")
    run = run.changed("batch.micro", run.batch.micro // _SEQUENCES)
    return run if held is None else run.changed("evaluation.batch", held.batch // _SEQUENCES)
