"""Chunks: what they cover, and that the bytes they are chosen by are those that torch allocates."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memplan.domain.errors import InputError
from memplan.domain.trace import Phase
from memplan.mechanisms.episodic import EpisodicMemory, Settings
from memplan.mechanisms.episodic.chunks import fitting, recalled, spans, written
from memplan.mechanisms.episodic.writing import place
from memplan.simulator.replay import replay
from memplan.smoke.cpu.events import Events

CASES = [
    Settings(capacity=70, key_size=24, similarity="matmul", neighbours=4),
    Settings(capacity=70, key_size=24, similarity="broadcast", neighbours=4),
    Settings(capacity=9, key_size=40, value_size=300, similarity="matmul", neighbours=3),
    Settings(capacity=9, key_size=8, value_size=2, similarity="matmul", neighbours=9),
]


@given(st.integers(0, 200), st.none() | st.integers(1, 300))
def test_spans_cover_every_row_once_in_order(total: int, chunk: int | None) -> None:
    found = list(spans(total, chunk))
    assert [row for span in found for row in range(span.start, span.stop)] == list(range(total))
    assert all(span.stop - span.start <= (chunk or total) for span in found)


@given(st.integers(0, 10**9), st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 10**5))
def test_the_largest_chunk_fits_and_one_more_query_would_not(
    free: int, fixed: int, each: int, queries: int
) -> None:
    if fixed + each > free:
        with pytest.raises(InputError, match="one query of the memory takes"):
            fitting(free, fixed, each, queries)
        return
    chunk = fitting(free, fixed, each, queries)
    assert 1 <= chunk <= queries
    assert fixed + chunk * each <= free
    assert chunk == queries or fixed + (chunk + 1) * each > free


def full(settings: Settings) -> tuple[EpisodicMemory, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    memory = EpisodicMemory(settings)
    rows = torch.randn(settings.capacity, settings.key_size, generator=random)
    memory.write(rows, torch.ones(len(rows), settings.width))
    return memory, torch.randn(100, settings.key_size, generator=random)


def peak(memory: EpisodicMemory, queries: torch.Tensor, *, write: bool) -> int:
    """The most bytes of a comparison in a write, or of a read, beside what was there."""
    events = Events()
    with events.watching([]) as found, torch.no_grad():
        events.enter(Phase.FORWARD)
        kept = place(memory.bank, queries, memory.settings) if write else memory.read(queries)
    del kept
    return int(replay(found[0], exact=True).peak.allocated)


@pytest.mark.parametrize(
    ("settings", "write"), [*((case, False) for case in CASES), *((case, True) for case in CASES[:3])]
)
def test_the_bytes_per_query_are_what_torch_allocates(settings: Settings, write: bool) -> None:
    memory, queries = full(settings)
    needs = written if write else recalled
    fixed, each = needs(settings, settings.capacity, 4, len(queries))
    memory.settings = Settings(
        **{
            name: getattr(settings, name)
            for name in ("capacity", "key_size", "value_size", "similarity", "neighbours")
        },
        write_chunk=10,
        read_chunk=10,
    )
    small = peak(memory, queries, write=write)
    assert abs(small - (fixed + 10 * each)) <= 16 * 10 + 8 * settings.capacity


@pytest.mark.parametrize("settings", CASES[:2], ids=["matmul", "broadcast"])
def test_more_free_memory_gives_larger_chunks(settings: Settings) -> None:
    memory, _ = full(settings)
    small, large = memory.chunks_for(45_000, 100), memory.chunks_for(80_000, 200)
    assert small[0] < large[0]
    assert small[1] < large[1]
    with pytest.raises(InputError):
        memory.chunks_for(100, 100)
