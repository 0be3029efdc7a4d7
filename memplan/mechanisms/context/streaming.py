"""Attention over a cache that is read a chunk at a time: memory does not grow with the context.

Softmax is taken over all keys with a running maximum and a running sum (Milakov and Gimelshein, 2018), so the
result is that of ordinary attention to rounding, for every size of chunk. Sums are in fp32, fp64 in fp64.

Shapes: queries (batch, heads, queries, width), keys (batch, kv_heads, tokens, width), values (batch,
kv_heads, tokens, value_dim); ``heads`` is a multiple of ``kv_heads``.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

import torch

from memplan.domain.errors import FieldError
from memplan.mechanisms.context.layer import MappedLayer

Chunks = Iterable[tuple[torch.Tensor, torch.Tensor]]


def attend(queries: torch.Tensor, layer: MappedLayer, *, chunk: int) -> torch.Tensor:
    """Causal attention of the newest tokens to all that a layer has, ``chunk`` tokens at a time.

    The last query belongs to the last cached token. Holds scores of heads x queries x chunk numbers, and one
    chunk of keys and values.

    Raises:
        FieldError: no query, more of them than tokens, heads that the cached ones do not divide, or chunks
            without a token.
    """
    return streamed(queries, layer.chunks(chunk), layer.tokens)


def streamed(queries: torch.Tensor, chunks: Chunks, tokens: int) -> torch.Tensor:
    """The same over any chunks of keys and values, ``tokens`` in all; (batch, heads, queries, value_dim).

    Raises:
        FieldError: no query, more of them than tokens, or heads that the cached ones do not divide.
    """
    batch, heads, count, width = queries.shape
    if not 1 <= count <= tokens:
        raise FieldError(
            f"{count} queries for {tokens} tokens", expected="1 query or more, and as many tokens"
        )
    wide = torch.promote_types(queries.dtype, torch.float32)
    first = tokens - count
    state: _Running | None = None
    start = 0
    for keys, values in chunks:
        groups = keys.shape[1]
        if heads % groups:
            raise FieldError(f"{heads} heads are no multiple of {groups} cached ones")
        # Queries that share keys are rows of one product: (batch, kv_heads, shared x queries, width).
        rows = queries.reshape(batch, groups, heads // groups * count, width)
        scores = (rows @ keys.transpose(2, 3)).to(wide).mul_(1 / sqrt(width))
        _hide_later(scores.view(batch, heads, count, -1), first - start)
        state = state or _Running(scores, values.shape[3])
        state.add(scores, values)
        start += keys.shape[2]
    assert state is not None
    return state.result().to(queries.dtype).reshape(batch, heads, count, -1)


def _hide_later(scores: torch.Tensor, ahead: int) -> None:
    """Minus infinity where a key comes after its query: query ``i`` sees the keys up to ``ahead + i``."""
    count, keys = scores.shape[2:]
    if keys <= ahead + 1:
        return
    later = torch.ones(count, keys, dtype=torch.bool).triu_(ahead + 1)
    scores.masked_fill_(later.to(scores.device), -torch.inf)


class _Running:
    """Softmax-weighted sums so far: of every row the largest score, the sum of weights, and of values."""

    def __init__(self, scores: torch.Tensor, width: int) -> None:
        rows = scores.shape[:-1]
        self.highest = scores.new_full((*rows, 1), -torch.inf)
        self.weight = scores.new_zeros((*rows, 1))
        self.values = scores.new_zeros((*rows, width))

    def add(self, scores: torch.Tensor, values: torch.Tensor) -> None:
        """Take in another chunk; ``scores`` is overwritten."""
        highest = torch.maximum(self.highest, scores.amax(-1, keepdim=True))
        # A row that has seen no key yet has nothing to be scaled, and minus infinity less itself is none.
        base = torch.where(highest == -torch.inf, 0.0, highest)
        shrink = torch.exp(self.highest - base)
        weights = scores.sub_(base).exp_()
        self.weight = self.weight * shrink + weights.sum(-1, keepdim=True)
        self.values = self.values * shrink + weights @ values.to(weights.dtype)
        self.highest = highest

    def result(self) -> torch.Tensor:
        """The sums divided by their weights."""
        return self.values / self.weight
