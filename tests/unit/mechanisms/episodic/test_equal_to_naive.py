"""The laws of an episodic memory: chunks and the form of the similarity change nothing but memory."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from memplan.mechanisms.episodic import EpisodicMemory, Settings

RATE, THRESHOLD, TEMPERATURE = 0.3, 0.6, 0.2
ROUNDING = {torch.float32: 2e-6, torch.float64: 1e-13}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A memory of ``capacity`` slots, what is written first, what then, and what is asked."""

    capacity: int
    width: int
    neighbours: int
    chunk: int
    first: Tensor
    second: Tensor
    queries: Tensor

    def memory(self, similarity: str, chunk: int | None) -> EpisodicMemory:
        made = Settings(
            capacity=self.capacity,
            key_size=self.width,
            value_size=2,
            similarity=similarity,
            write_chunk=chunk,
            read_chunk=chunk,
            neighbours=self.neighbours,
            rate=RATE,
            threshold=THRESHOLD,
            temperature=TEMPERATURE,
        )
        return EpisodicMemory(made, dtype=self.first.dtype)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    width, batch = draw(st.integers(2, 7)), draw(st.integers(1, 3))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    rows = [
        torch.randn(batch, draw(st.integers(0, 9)), width, generator=random, dtype=dtype) for _ in range(3)
    ]
    return Case(
        capacity=draw(st.integers(1, 30)),
        width=width,
        neighbours=draw(st.integers(1, 5)),
        chunk=draw(st.integers(1, 12)),
        first=rows[0],
        second=rows[1],
        queries=rows[2],
    )


def cosine(queries: Tensor, keys: Tensor) -> Tensor:
    return functional.cosine_similarity(queries.unsqueeze(1), keys.unsqueeze(0), dim=-1)


def is_clear(keys: Tensor, queries: Tensor) -> bool:
    """Whether rounding cannot change an order, or on which side of the threshold a similarity lies."""
    if not len(keys) or not queries.numel():
        return True
    similar = cosine(queries.reshape(-1, keys.shape[1]), keys)
    edge = torch.full((len(similar), 1), THRESHOLD, dtype=similar.dtype)
    ordered = torch.cat((similar, edge), 1).sort(1).values
    return bool((ordered.diff(dim=1) > 1e-4).all())


def values_of(keys: Tensor) -> Tensor:
    return torch.stack((keys[..., 0] - 1, keys[..., 1] * 2), -1)


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from(("matmul", "broadcast")))
def test_any_chunk_gives_what_all_queries_at_once_and_broadcast_give(case: Case, similarity: str) -> None:
    naive, chunked = case.memory("broadcast", None), case.memory(similarity, case.chunk)
    close = {"rtol": 0, "atol": ROUNDING[case.first.dtype]}
    for keys in (case.first, case.second):
        assume(is_clear(naive.bank.keys[: len(naive)], keys))
        assert chunked.write(keys, values_of(keys)) == naive.write(keys, values_of(keys))
    assume(is_clear(naive.bank.keys[: len(naive)], case.queries))
    found, expected = chunked.read(case.queries), naive.read(case.queries)

    torch.testing.assert_close(found.values, expected.values, **close)
    torch.testing.assert_close(found.similarity, expected.similarity, **close)
    assert torch.equal(found.slots, expected.slots)
    torch.testing.assert_close(chunked.bank.keys, naive.bank.keys, **close)
    torch.testing.assert_close(chunked.bank.values, naive.bank.values, **close)
    assert torch.equal(chunked.bank.hits, naive.bank.hits)
    assert torch.equal(chunked.bank.last_used, naive.bank.last_used)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_a_write_is_what_a_loop_over_queries_and_slots_says(case: Case) -> None:
    memory = case.memory("matmul", case.chunk)
    memory.write(case.first, values_of(case.first))
    old = memory.bank.keys[: len(memory)].clone()
    assume(is_clear(old, case.second))
    room = case.capacity - len(memory)
    flat = case.second.reshape(-1, case.width)

    into: dict[int, list[Tensor]] = {}
    novel = []
    for query in flat:
        similar = cosine(query[None], old)[0] if len(old) else torch.empty(0)
        if len(old) and float(similar.max()) >= THRESHOLD:
            into.setdefault(int(similar.argmax()), []).append(query)
        else:
            novel.append(query)
    written = memory.write(case.second, values_of(case.second))

    assert written.merged == len(flat) - len(novel)
    assert written.stored == min(len(novel), room + len(old) - len(into))
    assert written.stored + written.dropped == len(novel)
    for slot, members in into.items():
        moved = (1 - RATE) * old[slot] + RATE * torch.stack(members).mean(0)
        torch.testing.assert_close(memory.bank.keys[slot], moved)
    kept = novel[written.dropped :]
    free = memory.bank.keys[len(old) : len(old) + min(room, len(kept))]
    torch.testing.assert_close(free, torch.stack(kept)[: len(free)] if len(free) else free)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_an_answer_is_the_weighted_mean_of_the_nearest_values(case: Case) -> None:
    memory = case.memory("matmul", case.chunk)
    memory.write(case.first, values_of(case.first))
    keys, values = memory.bank.keys[: len(memory)], memory.bank.values[: len(memory)]
    assume(is_clear(keys, case.queries))
    found = memory.read(case.queries)
    assert found.values.shape == (*case.queries.shape[:-1], 2)
    if not len(keys):
        assert not found.values.any()
        return
    best = min(case.neighbours, len(keys))
    for answer, query in zip(found.values.reshape(-1, 2), case.queries.reshape(-1, case.width), strict=True):
        top = cosine(query[None], keys)[0].topk(best)
        weights = torch.softmax(top.values / TEMPERATURE, 0)
        torch.testing.assert_close(answer, (weights[:, None] * values[top.indices]).sum(0))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 20),
    st.sampled_from((96, 300)),
    st.sampled_from(("matmul", "broadcast")),
)
def test_duplicates_are_not_told_apart_by_rounding(seed: int, chunk: int, width: int, form: str) -> None:
    random = torch.Generator().manual_seed(seed)
    known = torch.randn(5, width, generator=random).repeat(7, 1)
    asked = known[torch.randint(35, (20,), generator=random)] + 0.05 * torch.randn(
        20, width, generator=random
    )
    banks = []
    for size, similarity in ((None, "broadcast"), (chunk, form)):
        memory = EpisodicMemory(
            Settings(capacity=40, key_size=width, similarity=similarity, write_chunk=size)
        )
        memory.write(known, known)
        assert memory.write(asked, asked).merged == 20
        assert int((memory.bank.hits[:35] > 1).nonzero().max()) < 5
        banks.append(memory.bank)
    assert torch.equal(banks[0].hits, banks[1].hits)
    torch.testing.assert_close(banks[0].keys, banks[1].keys)


@settings(max_examples=40, deadline=None)
@given(cases(), st.integers(1, 40))
def test_consolidation_does_not_depend_on_the_chunk_either(case: Case, chunk: int) -> None:
    memories = [case.memory("matmul", size) for size in (None, chunk)]
    for memory in memories:
        for keys in (case.first, case.second):
            memory.write(keys, values_of(keys))
    assume(is_clear(memories[0].bank.keys[: len(memories[0])], memories[0].bank.keys[: len(memories[0])]))
    assert memories[0].consolidate(THRESHOLD) == memories[1].consolidate(THRESHOLD)
    torch.testing.assert_close(memories[0].bank.keys, memories[1].bank.keys)
    assert torch.equal(memories[0].bank.hits, memories[1].bank.hits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_the_dtype_of_the_bank(dtype: torch.dtype) -> None:
    memory = EpisodicMemory(Settings(capacity=4, key_size=3))
    keys = torch.eye(3).to(dtype)
    memory.write(keys, keys)
    found = memory.read(keys)
    assert found.values.dtype is torch.float32
    torch.testing.assert_close(found.similarity[:, 0], torch.ones(3))
