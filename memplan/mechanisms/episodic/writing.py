"""Writing: each query is merged into the slot that holds nearly the same already, or stored in its own.

All similarities are taken against the bank as it was before the write, and of slots that are as similar but
for rounding the first is taken. What is written does therefore not depend on the chunk size, unless a
similarity is the threshold but for rounding. Near-duplicates within one write both get a slot;
``consolidation`` merges them.

Shapes: Q queries; M slots, S of them in use; keys are K and values V wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memplan.mechanisms.episodic.bank import Bank
from memplan.mechanisms.episodic.chunks import spans
from memplan.mechanisms.episodic.settings import Settings
from memplan.mechanisms.episodic.similarity import Similarity, against, rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of the queries of a write: merged into a known slot, stored in one of their own, dropped.

    Queries are dropped when a single write brings more of them than there is room for; the earliest go.
    """

    merged: int
    stored: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which query goes where.

    Attributes:
        merged: (m,) int64, queries that are merged; ``into``: (m,) their slots.
        stored: (n,) int64, queries that are stored; ``at``: (n,) their slots, all different.
        dropped: how many found no slot.
    """

    merged: Tensor
    into: Tensor
    stored: Tensor
    at: Tensor
    dropped: int


def place(bank: Bank, keys: Tensor, settings: Settings) -> Placement:
    """Where queries with ``keys`` (Q, K) go; the bank is not changed, and no gradient flows."""
    best = torch.full((len(keys),), float("-inf"), dtype=bank.keys.dtype, device=bank.keys.device)
    slots = torch.zeros(len(keys), dtype=torch.int64, device=bank.keys.device)
    if bank.size:
        similarity = against(bank.keys[: bank.size].detach(), settings.similarity)
        for span in spans(len(keys), settings.write_chunk):
            _nearest(similarity, keys[span].detach().to(bank.keys.dtype), best[span], slots[span])
        del similarity
    known = best >= settings.threshold
    merged = known.nonzero().squeeze(1)
    novel = known.logical_not_().nonzero().squeeze(1)
    into = slots[merged]
    room = _room(bank, into)[: len(novel)]
    dropped = len(novel) - len(room)
    return Placement(merged=merged, into=into, stored=novel[dropped:], at=room, dropped=dropped)


def _nearest(similarity: Similarity, queries: Tensor, best: Tensor, slots: Tensor) -> None:
    """The best similarity of each query (c, K), and the first slot that is as good but for rounding.

    A product of one row may round otherwise than one of many, which would tell duplicates apart.
    """
    similar = similarity(queries)
    torch.amax(similar, dim=1, out=best)
    similar.ge_((best - rounding(best.dtype)).unsqueeze(1))
    torch.argmax(similar, dim=1, out=slots)


def _room(bank: Bank, touched: Tensor) -> Tensor:
    """Slots for something new: free ones, then those used longest ago, of these the ones least used.

    A slot that the same write merges into (``touched``) stays.
    """
    order = torch.argsort(bank.hits[: bank.size], stable=True)
    order = order[torch.argsort(bank.last_used[: bank.size][order], stable=True)]
    stays = torch.zeros(bank.size, dtype=torch.bool, device=order.device)
    stays[touched] = True
    free = torch.arange(bank.size, len(bank.keys), device=order.device)
    return torch.cat((free, order[~stays[order]]))


def carry_out(bank: Bank, keys: Tensor, values: Tensor, placement: Placement, settings: Settings) -> Written:
    """Change the bank, in place; with ``gradient_safe`` into new tensors that gradients flow through.

    A slot moves by ``rate`` towards the mean of what is merged into it.
    """
    bank.clock += 1
    kept, share = _weights(bank, placement, settings.rate)
    for name, given in (("keys", keys), ("values", values)):
        rows = getattr(bank, name)
        if settings.gradient_safe:
            setattr(bank, name, _remade(rows, given.to(rows.dtype), placement, kept, share))
        else:
            _changed(rows, given.detach(), placement, kept, share, settings.write_chunk)
    bank.note_use(placement.into)
    bank.note_new(placement.at)
    if len(placement.at):
        bank.size = max(bank.size, int(placement.at.max()) + 1)
    return Written(merged=len(placement.merged), stored=len(placement.stored), dropped=placement.dropped)


def _weights(bank: Bank, placement: Placement, rate: float) -> tuple[Tensor, Tensor]:
    """The share of each slot that stays (M, 1), and that of each merged query (m, 1) in its new slot."""
    counts = bank.keys.new_zeros(len(bank.keys), 1)
    counts.index_add_(0, placement.into, counts.new_ones(len(placement.into), 1))
    share = rate / counts[placement.into]
    return counts.clamp_(max=1).mul_(-rate).add_(1), share


def _changed(
    rows: Tensor, given: Tensor, placement: Placement, kept: Tensor, share: Tensor, chunk: int | None
) -> None:
    rows.mul_(kept)
    for span in spans(len(placement.merged), chunk):
        part = given[placement.merged[span]].to(rows.dtype).mul_(share[span])
        rows.index_add_(0, placement.into[span], part)
    for span in spans(len(placement.stored), chunk):
        rows.index_copy_(0, placement.at[span], given[placement.stored[span]].to(rows.dtype))


def _remade(rows: Tensor, given: Tensor, placement: Placement, kept: Tensor, share: Tensor) -> Tensor:
    """The same out of place: ``rows`` stay as they are for whoever saved them for backward."""
    moved = (rows * kept).index_add(0, placement.into, given[placement.merged] * share)
    return moved.index_copy(0, placement.at, given[placement.stored])
