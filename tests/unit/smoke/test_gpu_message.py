"""PyTorch's out-of-memory message is read back into the figures it was made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.domain.bytes import Bytes
from memplan.domain.out_of_memory import OutOfMemory
from memplan.domain.trace import Phase
from memplan.smoke.gpu.message import Figures, figures, first_sentences

MIB, GIB = 2**20, 2**30
AMOUNTS = st.integers(0, 2**40).map(Bytes)

PUBLISHED = {
    "CUDA out of memory. Tried to allocate 19.68 GiB. GPU 0 has a total capacity of 23.68 GiB of which"
    " 11.88 GiB is free. Including non-PyTorch memory, this process has 11.79 GiB memory in use. Of the"
    " allocated memory 11.44 GiB is allocated by PyTorch, and 43.59 MiB is reserved by PyTorch but"
    " unallocated. If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF": {
        "tried": 19.68 * GIB,
        "capacity": 23.68 * GIB,
        "free": 11.88 * GIB,
        "in_use": 11.79 * GIB,
        "allocated": 11.44 * GIB,
        "cached": 43.59 * MIB,
    },
    "CUDA out of memory. Tried to allocate 256.00 MiB. GPU 0 has a total capacity of 47.53 GiB of which"
    " 16.88 MiB is free. Process 3652628 has 47.51 GiB memory in use. Of the allocated memory 47.14 GiB is"
    " allocated by PyTorch, and 57.79 MiB is reserved by PyTorch but unallocated.": {
        "tried": 256 * MIB,
        "capacity": 47.53 * GIB,
        "free": 16.88 * MIB,
        "allocated": 47.14 * GIB,
        "cached": 57.79 * MIB,
    },
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 8.00 GiB of which 0 bytes"
    " is free. 3.00 GiB allowed; Of the allocated memory 14.51 GiB is allocated by PyTorch, with 12.00 MiB"
    " allocated in private pools (e.g., CUDA Graphs), and 15.90 MiB is reserved by PyTorch but"
    " unallocated.": {
        "tried": 20 * MIB,
        "capacity": 8 * GIB,
        "free": 0,
        "allowed": 3 * GIB,
        "allocated": 14.51 * GIB,
        "cached": 15.9 * MIB,
    },
    "something else": {},
}


@pytest.mark.parametrize("message", PUBLISHED, ids=lambda message: message[-40:])
def test_messages_of_real_runs_are_read(message: str) -> None:
    found = figures(message)
    expected = {name: Bytes(round(amount)) for name, amount in PUBLISHED[message].items()}
    assert found == Figures(**expected)


@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, st.none() | AMOUNTS)
def test_what_is_written_is_read_back_to_a_hundredth_of_its_unit(
    tried: Bytes,
    capacity: Bytes,
    free: Bytes,
    in_use: Bytes,
    allocated: Bytes,
    cached: Bytes,
    allowed: Bytes | None,
) -> None:
    written = OutOfMemory(
        tried=tried,
        capacity=capacity,
        free=free,
        in_use=in_use,
        allocated=allocated,
        cached=cached,
        allowed=allowed,
        phase=Phase.FORWARD,
        tensor="",
    )
    found = figures(written.message)
    for name in ("tried", "capacity", "free", "in_use", "allocated", "cached", "allowed"):
        before, after = getattr(written, name), getattr(found, name)
        assert (before is None) == (after is None)
        if before is not None:
            unit = next((factor for factor in (2**30, 2**20, 2**10) if before > factor), 100)
            assert abs(before - after) <= unit / 199


def test_advice_on_settings_is_left_out() -> None:
    message = next(iter(PUBLISHED)).replace(". ", ".\n ")
    told = first_sentences(message)
    assert told.endswith("but unallocated.")
    assert "\n" not in told
