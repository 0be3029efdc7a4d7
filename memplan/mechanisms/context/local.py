"""Causal local attention, block by block: each query sees the last so many keys, and no more is held.

The scores of a whole sequence are ``length²`` numbers per head; those of a block of queries are ``block ×
(block + reach - 1)``, whatever the length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from memplan.domain.errors import FieldError, InputError


def local_attention(
    query: Tensor, key: Tensor, value: Tensor, *, reach: int, block: int, past: int = 0
) -> Tensor:
    """Attention of each query to the last ``reach`` keys up to its own, computed ``block`` queries at a time.

    It is exact: each block is given all keys that any of its queries sees, so the result is that of full
    attention with a banded mask, and of full causal attention where ``reach`` covers the sequence. Keys and
    values may be views of a file in memory; only the slices in use are read.

    Args:
        query: ``(batch, heads, queries, head_dim)``.
        key: ``(batch, key_heads, past + queries, head_dim)``; ``heads`` is a multiple of ``key_heads``.
        value: ``(batch, key_heads, past + queries, value_dim)``.
        reach: keys a query sees, its own with them.
        block: queries computed together.
        past: keys before the first query's own.

    Returns:
        ``(batch, heads, queries, value_dim)``.

    Raises:
        FieldError: ``reach`` or ``block`` is not positive, ``past`` is negative.
        InputError: the shapes do not belong together.
    """
    _check(query, key, value, reach, block, past)
    queries = query.shape[-2]
    result = query.new_empty((*query.shape[:-1], value.shape[-1]))
    for start in range(0, queries, block):
        stop = min(start + block, queries)
        oldest = max(0, past + start - reach + 1)
        mask = band(stop - start, past + stop - oldest, reach, query.device)
        seen = slice(oldest, past + stop)
        result[..., start:stop, :] = functional.scaled_dot_product_attention(
            query[..., start:stop, :],
            key[..., seen, :],
            value[..., seen, :],
            attn_mask=mask,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return result


def band(queries: int, keys: int, reach: int, device: torch.device | str = "cpu") -> Tensor:
    """Which keys each query sees, ``(queries, keys)`` of bool, where the last query's own is the last key."""
    # Masks of bytes, in place: distances as integers would take more than the scores they mask.
    seen = torch.ones((queries, keys), dtype=torch.bool, device=device)
    return seen.tril_(keys - queries).triu_(keys - queries - reach + 1)


def _check(query: Tensor, key: Tensor, value: Tensor, reach: int, block: int, past: int) -> None:
    for name, number, least in (("reach", reach, 1), ("block", block, 1), ("past", past, 0)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise FieldError(
                f"local attention: {name} is {number!r}", expected=f"a whole number from {least} up"
            )
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if not query.dim() == key.dim() == value.dim() == 4:
        raise InputError(f"local attention: {shapes}", expected="(batch, heads, tokens, head_dim) each")
    same_batch = query.shape[0] == key.shape[0] == value.shape[0]
    if not same_batch or key.shape[1:3] != value.shape[1:3] or query.shape[-1] != key.shape[-1]:
        raise InputError(f"local attention: {shapes}", expected="one batch, one head_dim, a value per key")
    if query.shape[1] % key.shape[1]:
        raise InputError(f"local attention: {shapes}", expected="heads that key heads divide")
    if key.shape[2] != past + query.shape[2]:
        raise InputError(
            f"local attention: {key.shape[2]} keys for {query.shape[2]} queries after {past}",
            expected=f"{past + query.shape[2]} keys",
        )
