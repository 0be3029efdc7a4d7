"""Local attention by blocks against attention with a mask."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from memplan.domain.errors import FieldError, InputError
from memplan.mechanisms.context import local_attention
from memplan.mechanisms.context.local import band
from memplan.simulator.replay import replay
from memplan.smoke.cpu.events import Events

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(heads: int, tokens: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(
        2, heads, tokens, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


@settings(deadline=None, max_examples=60)
@given(
    tokens=st.integers(1, 40),
    reach=st.integers(1, 50),
    block=st.integers(1, 50),
    past=st.integers(0, 20),
    group=st.sampled_from([1, 2]),
)
def test_any_block_gives_what_a_banded_mask_gives(
    tokens: int, reach: int, block: int, past: int, group: int
) -> None:
    query = drawn(2, tokens, 4)
    key, value = drawn(2 // group, past + tokens, 4, 1), drawn(2 // group, past + tokens, 3, 2)
    own = torch.arange(past, past + tokens)[:, None]
    other = torch.arange(past + tokens)
    mask = (other <= own) & (other > own - reach)
    wanted = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    found = local_attention(query, key, value, reach=reach, block=block, past=past)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reach", [17, 18, 1000])
def test_a_reach_that_covers_the_sequence_is_full_causal_attention(reach: int) -> None:
    query, key, value = (drawn(2, 17, 4, seed) for seed in range(3))
    wanted = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(local_attention(query, key, value, reach=reach, block=5), wanted)


def test_gradients_are_those_of_masked_attention() -> None:
    mine = [drawn(2, 13, 4, seed).requires_grad_() for seed in range(3)]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in mine]
    local_attention(*mine, reach=5, block=4).square().sum().backward()
    query, key, value = theirs
    masked = functional.scaled_dot_product_attention(query, key, value, attn_mask=band(13, 13, 5))
    masked.square().sum().backward()
    for found, wanted in zip(mine, theirs, strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"reach": 0, "block": 4}, "reach is 0"),
        ({"reach": 4, "block": 0}, "block is 0"),
        ({"reach": float("nan"), "block": 4}, "reach is nan"),
        ({"reach": 4, "block": 4, "past": -1}, "past is -1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(asked: dict[str, int], named: str) -> None:
    tokens = drawn(1, 8, 4)
    with pytest.raises(FieldError, match=named):
        local_attention(tokens, tokens, tokens, **asked)


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ((8, 4), (8, 4), (8, 4)),
        ((1, 1, 8, 4), (1, 1, 8, 5), (1, 1, 8, 4)),
        ((1, 1, 8, 4), (1, 1, 8, 4), (1, 1, 7, 4)),
        ((1, 3, 8, 4), (1, 2, 8, 4), (1, 2, 8, 4)),
        ((1, 1, 8, 4), (1, 1, 9, 4), (1, 1, 9, 4)),
        ((2, 1, 8, 4), (1, 1, 8, 4), (1, 1, 8, 4)),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match="local attention") as caught:
        local_attention(torch.zeros(query), torch.zeros(key), torch.zeros(value), reach=4, block=4)
    assert caught.value.expected


def test_what_is_made_beside_the_result_does_not_grow_with_the_length_by_allocation_events() -> None:
    beside = []
    for tokens in (256, 1024):
        query, key, value = (torch.randn(1, 2, tokens, 16) for _ in range(3))
        events = Events()
        with torch.no_grad(), events.watching(()) as found:
            result = local_attention(query, key, value, reach=64, block=32)
        beside.append(replay(found[0], exact=True).peak.allocated - result.nbytes)
    assert beside[0] == beside[1]
    # The scores of all pairs would be 8 MiB.
    assert beside[1] < 256 * 1024
