"""Reading: each query is answered by its k nearest slots, weighted by a softmax over their similarities.

Of slots that are equally similar but for rounding, which of them are among the nearest is not defined.

Shapes: Q queries of width K; S slots in use, V wide values; k is ``neighbours``, or S if that is less.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from memplan.mechanisms.episodic.bank import Bank
from memplan.mechanisms.episodic.chunks import spans
from memplan.mechanisms.episodic.settings import Settings
from memplan.mechanisms.episodic.similarity import Similarity, against


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """Answers to queries of the shape (…, K).

    Attributes:
        values: (…, V), zeros from an empty memory.
        similarity: (…, k), the largest first.
        slots: (…, k) int64.
    """

    values: Tensor
    similarity: Tensor
    slots: Tensor


def recall(bank: Bank, queries: Tensor, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Values (Q, V), similarities (Q, k) and slots (Q, k) for ``queries`` (Q, K), chunk by chunk.

    Gradients flow to the queries, and to keys and values if those need any.
    """
    count, best = len(queries), min(settings.neighbours, bank.size)
    results = (
        bank.values.new_zeros(count, settings.width),
        bank.keys.new_zeros(count, best),
        torch.zeros(count, best, dtype=torch.int64, device=bank.keys.device),
    )
    if not bank.size or not count:
        return results
    similarity = against(bank.keys[: bank.size], settings.similarity)
    if torch.is_grad_enabled():
        del results
        return _joined(bank, similarity, queries, settings)
    for span in spans(count, settings.read_chunk):
        _keep(results, span, _answer(bank, similarity, queries[span], settings))
    return results


def _keep(results: tuple[Tensor, ...], span: slice, answer: tuple[Tensor, ...]) -> None:
    """Copy the answer of a chunk to its place; nothing of it outlives the call."""
    for result, part in zip(results, answer, strict=True):
        result[span] = part


def _joined(
    bank: Bank, similarity: Similarity, queries: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """Chunks that are put together at the end: each assignment would cost a copy of all in backward."""
    parts = [
        _answer(bank, similarity, queries[span], settings)
        for span in spans(len(queries), settings.read_chunk)
    ]
    values, similar, slots = (torch.cat(column) for column in zip(*parts, strict=True))
    return values, similar, slots


def _answer(
    bank: Bank, similarity: Similarity, queries: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    similar, slots = similarity(queries.to(bank.keys.dtype)).topk(min(settings.neighbours, bank.size), dim=1)
    weights = torch.softmax(similar / settings.temperature, dim=1)
    # Looks values up and sums them without a tensor of (c, k, V) in between.
    values = functional.embedding_bag(slots, bank.values[: bank.size], per_sample_weights=weights, mode="sum")
    return values, similar, slots
