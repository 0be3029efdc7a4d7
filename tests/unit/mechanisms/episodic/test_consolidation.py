"""Merging near-duplicates and pruning."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.errors import FieldError
from memplan.mechanisms.episodic import EpisodicMemory, Settings


def filled(keys: torch.Tensor, hits: list[int] | None = None) -> EpisodicMemory:
    memory = EpisodicMemory(Settings(capacity=len(keys) + 1, key_size=keys.shape[1]))
    memory.write(keys, keys)
    if hits is not None:
        memory.bank.hits[: len(keys)] = torch.tensor(hits)
    return memory


def test_the_most_used_slot_takes_in_the_others_weighted_by_their_hits() -> None:
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    memory = filled(keys, [1, 1, 3])
    assert memory.consolidate(0.95) == 1
    assert len(memory) == 2
    torch.testing.assert_close(memory.bank.keys[:2], torch.tensor([[0.0, 1.0], [1.0, 0.075]]))
    assert memory.bank.hits.tolist() == [1, 4, 0, 0]


def test_neighbours_of_neighbours_are_not_chained() -> None:
    angles = torch.tensor([0.0, 0.3, 0.6])
    memory = filled(torch.stack((angles.cos(), angles.sin()), 1))
    assert memory.consolidate(0.95) == 1


def test_zeros_are_like_nothing_and_stay() -> None:
    memory = filled(torch.zeros(3, 2))
    assert memory.consolidate(0.5) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(1, 5))
def test_exact_duplicates_become_one_and_a_second_run_does_nothing(seed: int, rows: int, copies: int) -> None:
    keys = torch.randn(rows, 16, generator=torch.Generator().manual_seed(seed))
    memory = filled(keys.repeat(copies, 1))
    assert memory.consolidate(0.999) == rows * (copies - 1)
    torch.testing.assert_close(memory.bank.keys[:rows], keys)
    assert memory.consolidate(0.999) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(-1, 1))
def test_no_use_is_lost_and_free_slots_are_zeros(seed: int, threshold: float) -> None:
    memory = filled(torch.randn(9, 3, generator=torch.Generator().manual_seed(seed)))
    before, used = len(memory), int(memory.bank.hits.sum())
    assert memory.consolidate(threshold) == before - len(memory)
    assert int(memory.bank.hits.sum()) == used
    for rows in (memory.bank.keys, memory.bank.values, memory.bank.hits, memory.bank.last_used):
        assert not rows[len(memory) :].any()


def test_pruning_drops_what_is_used_little() -> None:
    memory = filled(torch.eye(3), [5, 1, 2])
    assert memory.prune(least_hits=2) == 1
    assert torch.equal(memory.bank.keys[:2], torch.eye(3)[[0, 2]])


def test_pruning_drops_what_was_not_used_for_long() -> None:
    memory = filled(torch.eye(3))
    memory.bank.clock, memory.bank.last_used[:3] = 9, torch.tensor([9, 2, 4])
    assert memory.prune(longest_idle=5) == 1
    assert memory.bank.last_used[:2].tolist() == [9, 4]


def test_pruning_keeps_the_most_recent_in_their_order() -> None:
    memory = filled(torch.eye(3))
    memory.bank.last_used[:3] = torch.tensor([7, 1, 8])
    assert memory.prune(at_most=2) == 1
    assert memory.bank.last_used[:2].tolist() == [7, 8]
    assert memory.prune(at_most=0) == 2
    assert len(memory) == 0


def test_an_empty_memory_has_nothing_to_merge_or_prune() -> None:
    memory = EpisodicMemory(Settings(capacity=2, key_size=2))
    assert memory.consolidate() == memory.prune(least_hits=1) == 0


def test_numbers_out_of_range_are_refused() -> None:
    memory = filled(torch.eye(2))
    with pytest.raises(FieldError, match="threshold is nan"):
        memory.consolidate(float("nan"))
    with pytest.raises(FieldError, match="at_most is -1"):
        memory.prune(at_most=-1)
