"""Attention over chunks of a cache is attention over all of it, whatever the chunks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from memplan.domain.errors import FieldError
from memplan.mechanisms.context.layer import MappedLayer
from memplan.mechanisms.context.streaming import attend, streamed

pytestmark = pytest.mark.usefixtures("one_thread")


def expected(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """PyTorch's own, with the mask of queries that come last."""
    count, tokens = queries.shape[2], keys.shape[2]
    mask = torch.ones(count, tokens, dtype=torch.bool).tril_(tokens - count)
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=True)


@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 3),
    shared=st.integers(1, 3),
    tokens=st.integers(1, 40),
    count=st.integers(1, 40),
    chunk=st.integers(1, 45),
    width=st.sampled_from([4, 8]),
)
@settings(max_examples=50, deadline=None)
def test_any_chunks_give_what_attention_gives(
    batch: int, groups: int, shared: int, tokens: int, count: int, chunk: int, width: int
) -> None:
    """In double precision, where rounding hides nothing; grouped heads, chunks that do not divide."""
    count = min(count, tokens)
    queries = torch.randn(batch, groups * shared, count, width, dtype=torch.float64)
    keys, values = (torch.randn(batch, groups, tokens, width, dtype=torch.float64) for _ in "kv")
    parts = zip(keys.split(chunk, 2), values.split(chunk, 2), strict=True)
    found = streamed(queries, parts, tokens)
    assert torch.allclose(found, expected(queries, keys, values), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("bits", "close"), [(0, 1e-5), (8, 2e-2), (4, 3e-1)])
def test_a_cached_layer_is_attended_to_where_it_lies(bits: int, close: float) -> None:
    """Also quantized, as far as its numbers are."""
    layer = MappedLayer(None, bits=bits)
    keys, values = torch.randn(1, 2, 100, 16), torch.randn(1, 2, 100, 16)
    layer.append(keys, values)
    queries = torch.randn(1, 4, 3, 16)
    found = attend(queries, layer, chunk=32)
    assert (found - expected(queries, keys, values)).abs().max() < close


def test_very_large_scores_do_not_overflow() -> None:
    """The maximum is taken off before anything is exponentiated."""
    queries, keys, values = (1e4 * torch.randn(1, 1, 20, 8) for _ in "qkv")
    found = streamed(queries, zip(keys.split(7, 2), values.split(7, 2), strict=True), 20)
    assert torch.isfinite(found).all()
    assert torch.allclose(found, expected(queries, keys, values), rtol=1e-4)


def test_what_makes_no_sense_is_refused() -> None:
    """More queries than tokens, none at all, heads that do not divide, chunks of nothing."""
    layer = MappedLayer(None)
    layer.append(torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4))
    with pytest.raises(FieldError, match="4 queries for 3 tokens"):
        attend(torch.randn(1, 2, 4, 4), layer, chunk=2)
    with pytest.raises(FieldError, match="0 queries"):
        attend(torch.randn(1, 2, 0, 4), layer, chunk=2)
    with pytest.raises(FieldError, match="3 heads are no multiple of 2"):
        attend(torch.randn(1, 3, 1, 4), layer, chunk=2)
    with pytest.raises(FieldError, match="chunks of 0"):
        attend(torch.randn(1, 2, 1, 4), layer, chunk=0)
