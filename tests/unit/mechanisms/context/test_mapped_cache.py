"""Keys and values in mapped files come back as they were written, and the files go with their process."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import memplan
from memplan.domain.errors import FieldError, FileAccessError, InputError
from memplan.mechanisms.context.mapped import MappedCache
from memplan.mechanisms.context.rows import ALIGNMENT, DTYPES, Row

pytestmark = pytest.mark.usefixtures("one_thread")

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(memplan.__file__).parents[1])}
SIDES = st.integers(min_value=1, max_value=5)


def states(
    *sides: int, dtype: torch.dtype = torch.float32, wide: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys (batch, heads, tokens, width) and values as wide, or ``wide``."""
    keys = torch.randn(*sides).to(dtype)
    return keys, torch.randn(*sides[:3], wide or sides[3]).to(dtype)


@given(
    batch=SIDES,
    heads=SIDES,
    width=SIDES,
    value_width=SIDES,
    steps=st.lists(st.integers(min_value=0, max_value=40), min_size=1, max_size=6),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=60, deadline=None)
def test_what_is_read_has_the_bytes_that_were_written(
    batch: int, heads: int, width: int, value_width: int, steps: list[int], dtype: torch.dtype
) -> None:
    """Any shape, any element type, any steps; like a cache of concatenations."""
    written = [states(batch, heads, step, width, dtype=dtype, wide=value_width) for step in steps]
    with MappedCache(layers=1) as cache:
        for keys, values in written:
            found = cache.update(keys, values, 0)
        assert torch.equal(found[0], torch.cat([keys for keys, _ in written], 2))
        assert torch.equal(found[1], torch.cat([values for _, values in written], 2))


def test_special_numbers_come_back_bit_by_bit() -> None:
    """Not a number, infinities, minus zero: the cache is of bytes."""
    bits = torch.tensor([0x7FC00001, 0x7F800000, -0x80000000, 1], dtype=torch.int32).view(1, 1, 1, 4)
    keys = bits.view(torch.float32)
    with MappedCache(layers=1) as cache:
        found, _ = cache.update(keys, keys, 0)
        assert torch.equal(found.contiguous().view(torch.int32), bits)


def test_layers_keep_to_themselves() -> None:
    """Each has a file of its own."""
    written = [states(1, 2, 7, 4) for _ in range(3)]
    with MappedCache(layers=3) as cache:
        for layer, (keys, values) in enumerate(written):
            cache.append(keys, values, layer)
        for layer, (keys, values) in enumerate(written):
            found = cache.read(layer)
            assert torch.equal(found[0], keys)
            assert torch.equal(found[1], values)


def test_the_file_grows_in_doubling_steps_and_not_by_token() -> None:
    """Amortised: a thousand tokens take few extensions."""
    sizes = set()
    with MappedCache(layers=1) as cache:
        for _ in range(1000):
            cache.append(*states(1, 1, 1, 16), 0)
            sizes.add(cache.disk)
    assert len(sizes) <= 8
    assert max(sizes) <= 2 * 1000 * 128 + 4096


def test_views_stay_right_when_the_file_grows_and_after_it_is_closed() -> None:
    """They hold their mapping, and nobody cuts the file under them."""
    keys, values = states(1, 2, 3, 8)
    cache = MappedCache(layers=1)
    early, _ = cache.update(keys, values, 0)
    cache.append(*states(1, 2, 5000, 8), 0)
    assert torch.equal(early, keys)
    cache.close()
    assert torch.equal(early, keys)


def test_a_closed_cache_says_so() -> None:
    """Not a bad file descriptor."""
    with MappedCache(layers=1) as cache:
        cache.append(*states(1, 1, 1, 4), 0)
    with pytest.raises(InputError, match="the cache is closed"):
        cache.append(*states(1, 1, 1, 4), 0)


def test_truncated_tokens_are_written_over() -> None:
    """As after a step that failed, or a guess that was wrong."""
    first, second = states(1, 2, 9, 4), states(1, 2, 4, 4)
    with MappedCache(layers=1) as cache:
        cache.append(*first, 0)
        cache.truncate(5)
        found, _ = cache.update(*second, 0)
        assert torch.equal(found, torch.cat((first[0][:, :, :5], second[0]), 2))


@pytest.mark.parametrize("bits", [0, 8, 4])
@pytest.mark.parametrize("indices", [[1, 0, 2], [2, 2], [0, 0, 1, 1, 2, 2]])
def test_selecting_batch_entries_moves_no_number(bits: int, indices: list[int]) -> None:
    """Bytes are copied, so what was quantized is not quantized again."""
    with MappedCache(layers=1, bits=bits) as cache:
        before, _ = cache.update(*states(3, 2, 11, 8, dtype=torch.bfloat16), 0)
        before = before.clone()
        cache.layers[0].select(torch.tensor(indices))
        assert torch.equal(cache.read(0)[0], before[indices])


def test_chunks_are_the_whole_in_order() -> None:
    """Also where they do not divide it."""
    keys, values = states(1, 2, 10, 4)
    with MappedCache(layers=1) as cache:
        cache.append(keys, values, 0)
        parts = [(k.clone(), v.clone()) for k, v in cache.layers[0].chunks(4)]
    assert [part[0].shape[2] for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([part[1] for part in parts], 2), values)


@pytest.mark.parametrize(
    ("keys", "values", "said"),
    [
        ((1, 2, 3, 4), (1, 2, 4, 4), "do not belong together"),
        ((2, 3, 4), (2, 3, 4), "do not belong together"),
        ((1, 0, 3, 4), (1, 0, 3, 4), "empty side"),
        ((0, 2, 3, 4), (0, 2, 3, 4), "empty side"),
    ],
)
def test_states_that_make_no_row_are_refused(
    keys: tuple[int, ...], values: tuple[int, ...], said: str
) -> None:
    """With their shapes."""
    with MappedCache(layers=1) as cache, pytest.raises(FieldError, match=said):
        cache.append(torch.zeros(keys), torch.zeros(values), 0)


def test_states_of_another_shape_are_refused_and_nothing_is_lost() -> None:
    """The expectation names the shape of those before."""
    keys, values = states(1, 2, 3, 4)
    with MappedCache(layers=1) as cache:
        cache.append(keys, values, 0)
        with pytest.raises(FieldError, match="do not go with the cached ones"):
            cache.append(*states(1, 2, 3, 8), 0)
        with pytest.raises(FieldError, match="do not go with the cached ones"):
            cache.append(*states(1, 2, 3, 4, dtype=torch.float16), 0)
        assert torch.equal(cache.read(0)[0], keys)


def test_what_cannot_be_is_refused_at_once() -> None:
    """Layers, bits, chunks, ranges, element types."""
    with pytest.raises(FieldError, match="layers is 0"):
        MappedCache(layers=0)
    with pytest.raises(FieldError, match="3 bits"):
        MappedCache(layers=1, bits=3)
    with MappedCache(layers=1) as cache:
        with pytest.raises(FieldError, match="nothing is cached"):
            cache.read(0)
        with pytest.raises(InputError, match="no layer 1"):
            cache.read(1)
        with pytest.raises(FieldError, match="int64"):
            cache.append(torch.zeros(1, 1, 1, 1).long(), torch.zeros(1, 1, 1, 1).long(), 0)
        cache.append(*states(1, 1, 4, 4), 0)
        with pytest.raises(FieldError, match="tokens 2 to 5"):
            cache.read(0, 2, 5)
        with pytest.raises(FieldError, match="chunks of 0"):
            next(cache.layers[0].chunks(0))
        with pytest.raises(FieldError, match="5 tokens cannot be kept"):
            cache.layers[0].truncate(5)


def test_a_place_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    """A missing one, and a file."""
    with pytest.raises(FileAccessError, match="no directory"):
        MappedCache(tmp_path / "missing", layers=1)
    (tmp_path / "file").touch()
    with pytest.raises(FileAccessError, match="no directory"):
        MappedCache(tmp_path / "file", layers=1)


def test_nothing_is_left_behind_after_an_exception(tmp_path: Path) -> None:
    """Neither a file nor an open descriptor."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    with pytest.raises(FieldError), MappedCache(tmp_path, layers=4) as cache:
        cache.append(torch.ones(2, 2), torch.ones(2, 2), 3)
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_killed_process_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    """The files have no names while they are in use."""
    script = (
        "import os, signal, sys, torch\n"
        "from memplan.mechanisms.context.mapped import MappedCache\n"
        "cache = MappedCache(sys.argv[1], layers=2)\n"
        "cache.append(torch.ones(1, 2, 100, 8), torch.ones(1, 2, 100, 8), 0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=ENVIRONMENT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


@given(
    batch=SIDES,
    heads=SIDES,
    key=SIDES,
    value=SIDES,
    dtype=st.sampled_from(DTYPES),
    bits=st.sampled_from([0, 8, 4]),
)
@settings(max_examples=100, deadline=None)
def test_a_row_is_as_long_as_its_numbers_and_its_scales(
    batch: int, heads: int, key: int, value: int, dtype: torch.dtype, bits: int
) -> None:
    """Reckoned once more, up to what alignment adds."""
    key, value = 2 * key, 2 * value
    row = Row(
        batch=batch, heads=heads, key_dim=key, value_dim=value, dtype=dtype, bits=bits, group=2 if bits else 0
    )
    numbers = batch * heads * (key + value)
    scales = {0: 0, 8: 4, 4: 8}[bits] * numbers // 2
    plain = numbers * (bits // 4) // 2 + scales if bits else numbers * dtype.itemsize
    assert 0 <= row.bytes - plain < ALIGNMENT


@pytest.mark.parametrize(
    "wrong", [{"layers": 0}, {"layers": True}, {"layers": "x"}, {"layers": 1, "bits": 8, "group": 0}], ids=str
)
def test_sizes_that_are_none_are_refused_before_anything_is_made(
    wrong: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(FieldError, match=r"is (0|True|'x')"):
        MappedCache(tmp_path, **wrong)
    assert list(tmp_path.iterdir()) == []
