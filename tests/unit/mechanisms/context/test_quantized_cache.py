"""8 and 4 bits a number: how far off a number may come back, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.errors import FieldError
from memplan.mechanisms.context.mapped import MappedCache
from memplan.mechanisms.context.quantized import dequantize, quantize

pytestmark = pytest.mark.usefixtures("one_thread")


def _scale(x: torch.Tensor, bits: int, group: int) -> torch.Tensor:
    groups = x.unflatten(-1, (-1, group))
    spread = groups.abs().amax(-1) / 127 if bits == 8 else (groups.amax(-1) - groups.amin(-1)) / 15
    return spread.repeat_interleave(group, -1)


@given(
    bits=st.sampled_from([8, 4]),
    group=st.sampled_from([2, 4, 8, 16]),
    factor=st.floats(min_value=1e-30, max_value=1e30),
    offset=st.floats(min_value=-10, max_value=10),
    seed=st.integers(min_value=0, max_value=1000),
)
@settings(max_examples=120, deadline=None)
def test_a_number_comes_back_within_half_a_scale(
    bits: int, group: int, factor: float, offset: float, seed: int
) -> None:
    """Large and small, centred and not."""
    made = torch.Generator().manual_seed(seed)
    x = (torch.randn(3, 5, 16, generator=made) + offset) * factor
    found = dequantize(*quantize(x, bits, group), bits, group, torch.float32)
    rounding = 1e-6 * x.abs().amax() + 1e-44
    assert ((found - x).abs() <= _scale(x, bits, group) / 2 + rounding).all()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("value", [0.0, 1.5, -3e38, 1e-45])
def test_groups_of_equal_numbers_come_back_whole(bits: int, value: float) -> None:
    """No division by a scale of zero."""
    x = torch.full((2, 8), value)
    found = dequantize(*quantize(x, bits, 4), bits, 4, torch.float32)
    assert torch.allclose(found, x, rtol=1e-6, atol=2e-43)


def test_the_largest_numbers_of_both_signs_do_not_overflow() -> None:
    """Their difference is no fp32 number."""
    largest = torch.finfo(torch.float32).max
    x = torch.tensor([[-largest, largest, 0.0, 1.0]])
    found = dequantize(*quantize(x, 4, 4), 4, 4, torch.float32)
    assert torch.isfinite(found[0, :2] * 0.999).all()
    assert torch.allclose(found[0, 0], x[0, 0], rtol=1e-5)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_are_refused_and_nothing_is_lost(bits: int, bad: float) -> None:
    """One of them would spoil its whole group."""
    x = torch.randn(1, 2, 5, 16)
    with MappedCache(layers=1, bits=bits) as cache:
        before = cache.update(x, x, 0)[0].clone()
        worse = x.clone()
        worse[0, 1, 2, 3] = bad
        with pytest.raises(FieldError, match="cannot be quantized"):
            cache.append(x, worse, 0)
        assert cache.tokens == 5
        assert torch.equal(cache.read(0)[0], before)


@pytest.mark.parametrize(("bits", "bytes_per_token"), [(0, 2 * 2 * 64 * 4), (8, 2 * 2 * 68), (4, 2 * 2 * 40)])
def test_disk_space_shrinks_as_it_should(bits: int, bytes_per_token: int) -> None:
    """Heads of 64 numbers in fp32: 256 bytes, 64 and a scale, 32 and two."""
    with MappedCache(layers=1, bits=bits) as cache:
        cache.append(torch.randn(1, 2, 4096, 64), torch.randn(1, 2, 4096, 64), 0)
        row = cache.layers[0].row
        assert row is not None
        assert row.bytes == -(-bytes_per_token // 16) * 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_cache_returns_what_quantizing_in_memory_returns(dtype: torch.dtype) -> None:
    """The file adds no error of its own."""
    keys, values = torch.randn(2, 3, 33, 16).to(dtype), torch.randn(2, 3, 33, 8).to(dtype)
    with MappedCache(layers=1, bits=4) as cache:
        cache.append(keys[:, :, :20], values[:, :, :20], 0)
        found = cache.update(keys[:, :, 20:], values[:, :, 20:], 0)
    for seen, x in zip(found, (keys, values), strict=True):
        assert torch.equal(seen, dequantize(*quantize(x, 4, 8), 4, 8, dtype))


@pytest.mark.parametrize(("width", "group"), [(5, 5), (8, 3), (8, 0), (9, 2)])
def test_groups_that_do_not_divide_a_head_are_refused(width: int, group: int) -> None:
    """Two 4-bit codes share a byte, so groups are even."""
    with pytest.raises(FieldError, match="do not divide"):
        quantize(torch.zeros(1, width), 4, group)
