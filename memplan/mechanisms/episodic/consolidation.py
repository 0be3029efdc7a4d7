"""Consolidation: slots that hold nearly the same become one; pruning: slots that nobody uses go.

Shapes: S slots in use, of width K.
"""

from __future__ import annotations

import torch
from torch import Tensor

from memplan.domain.errors import FieldError
from memplan.mechanisms.episodic.bank import Bank
from memplan.mechanisms.episodic.chunks import spans
from memplan.mechanisms.episodic.settings import MATMUL
from memplan.mechanisms.episodic.similarity import against


def merge(bank: Bank, threshold: float, chunk: int | None) -> int:
    """Make one slot of each group of near-duplicates; returns how many slots that frees.

    The most used slot leads: it takes in every slot whose key is as similar to its own as ``threshold``, then
    the most used of the others does, and so on. A group's key and value are the means of its members',
    weighted by their hits; hits add up, and it was last used when the latest member was. Takes (chunk, S)
    similarities at a time; the outcome does not depend on the chunk.

    Raises:
        FieldError: the threshold is not a cosine: from -1 to 1.
    """
    if not -1.0 <= threshold <= 1.0:
        raise FieldError(f"threshold is {threshold!r}", expected="a number from -1 to 1")
    if not bank.size:
        return 0
    leaders = _leaders(bank, threshold, chunk)
    kept, group = torch.unique(leaders, return_inverse=True)
    freed = int(bank.size - len(kept))
    if freed:
        _merge_groups(bank, kept, group)
    return freed


def _leaders(bank: Bank, threshold: float, chunk: int | None) -> Tensor:
    """The slot (S,) that each slot is merged into; itself if it leads."""
    keys = bank.keys[: bank.size].detach()
    similarity = against(keys, MATMUL)
    leader = torch.full((bank.size,), -1, dtype=torch.int64, device=keys.device)
    order = torch.argsort(bank.hits[: bank.size], descending=True, stable=True)
    for span in spans(bank.size, chunk):
        close = similarity(keys[order[span]]) >= threshold
        for row, slot in zip(close, order[span].tolist(), strict=True):
            if leader[slot] < 0:
                leader[row & (leader < 0)] = slot
                leader[slot] = slot  # Its similarity to itself may be a rounding below 1, and is 0 for zeros.
    return leader


def _merge_groups(bank: Bank, kept: Tensor, group: Tensor) -> None:
    size, count = bank.size, len(kept)
    hits = torch.zeros_like(kept).index_add_(0, group, bank.hits[:size])
    latest = torch.zeros_like(kept).scatter_reduce_(0, group, bank.last_used[:size], "amax")
    share = (bank.hits[:size] / hits[group]).to(bank.keys.dtype).unsqueeze(1)
    means = [
        rows.new_zeros(count, rows.shape[1]).index_add_(0, group, rows[:size].detach() * share)
        for rows in (bank.keys, bank.values)
    ]
    bank.keep(kept)
    for rows, mean in zip(
        (bank.keys, bank.values, bank.hits, bank.last_used), (*means, hits, latest), strict=True
    ):
        rows[:count] = mean


def prune(
    bank: Bank, *, least_hits: int = 0, longest_idle: int | None = None, at_most: int | None = None
) -> int:
    """Drop slots with fewer hits than ``least_hits``, or not used for more than ``longest_idle`` writes and
    reads; then the least recently used until ``at_most`` are left. Returns how many went.

    Raises:
        FieldError: a number is negative.
    """
    for name, value in (("least_hits", least_hits), ("longest_idle", longest_idle), ("at_most", at_most)):
        if value is not None and value < 0:
            raise FieldError(f"{name} is {value}", expected="a whole number, not negative")
    before = bank.size
    hits, last_used = bank.hits[:before], bank.last_used[:before]
    stays = hits >= least_hits
    if longest_idle is not None:
        stays &= last_used >= bank.clock - longest_idle
    slots = stays.nonzero().squeeze(1)
    if at_most is not None and len(slots) > at_most:
        newest = torch.argsort(last_used[slots], descending=True, stable=True)[:at_most]
        slots = slots[newest.sort().values]
    if len(slots) < before:
        bank.keep(slots)
    return int(before - len(slots))
