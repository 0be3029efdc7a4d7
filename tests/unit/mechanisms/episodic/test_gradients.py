"""Gradients through a memory: none by default, right ones with ``gradient_safe``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memplan.mechanisms.episodic import EpisodicMemory, GatedMemory, Settings

RANDOM = torch.Generator().manual_seed(7)


def made(*, safe: bool, similarity: str = "matmul", chunk: int | None = 3) -> EpisodicMemory:
    settings = Settings(
        capacity=6,
        key_size=4,
        similarity=similarity,
        write_chunk=chunk,
        read_chunk=chunk,
        neighbours=3,
        threshold=0.8,
        temperature=0.5,
        gradient_safe=safe,
    )
    return EpisodicMemory(settings, dtype=torch.float64)


def rows(count: int) -> Tensor:
    return torch.randn(count, 4, dtype=torch.float64, generator=RANDOM)


@pytest.mark.parametrize("similarity", ["matmul", "broadcast"])
@pytest.mark.parametrize("chunk", [None, 2])
def test_gradients_reach_what_was_written_and_what_is_asked(similarity: str, chunk: int | None) -> None:
    first, second, queries = rows(4), rows(5), rows(3)
    # The first two of the second write are merged, the others stored.
    second[:2] = first[:2] + 0.05

    def run(*given: Tensor) -> Tensor:
        memory = made(safe=True, similarity=similarity, chunk=chunk)
        memory.write(given[0], given[1])
        memory.write(given[2], given[3])
        return memory.read(given[4]).values

    given = tuple(item.clone().requires_grad_() for item in (first, rows(4), second, rows(5), queries))
    assert torch.autograd.gradcheck(run, given)


def test_an_update_in_place_breaks_backward_and_a_safe_one_does_not() -> None:
    keys, queries = rows(4), rows(3)
    for safe in (False, True):
        memory = made(safe=safe)
        memory.write(keys, keys)
        asked = queries.clone().requires_grad_()
        answer = memory.read(asked).values
        memory.write(queries, queries)
        if safe:
            answer.sum().backward()
            assert asked.grad is not None
            assert bool(asked.grad.abs().sum() > 0)
        else:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                answer.sum().backward()


def test_both_kinds_of_update_write_the_same() -> None:
    memories = [made(safe=safe) for safe in (False, True)]
    first, second = rows(5), rows(4)
    for memory in memories:
        memory.write(first, first * 2)
        memory.write(torch.cat((first[:2] * 1.1, second)), torch.cat((first[:2], second)))
    for name in ("keys", "values", "hits", "last_used"):
        torch.testing.assert_close(*(getattr(memory.bank, name).detach() for memory in memories))


def test_detaching_ends_the_graph() -> None:
    memory = made(safe=True)
    keys = rows(4).requires_grad_()
    memory.write(keys, keys)
    assert memory.bank.values.requires_grad
    memory.detach()
    assert not memory.bank.values.requires_grad
    assert not memory.read(rows(2)).values.requires_grad


def test_consolidation_and_pruning_cut_the_graph_without_breaking_it() -> None:
    memory = made(safe=True)
    keys = rows(4).requires_grad_()
    memory.write(keys, keys)
    answer = memory.read(rows(2)).values
    memory.consolidate(0.1)
    memory.prune(at_most=1)
    assert not memory.bank.keys.requires_grad
    answer.sum().backward()
    assert keys.grad is not None


def test_a_gated_memory_is_out_of_the_way_in_training() -> None:
    layer = GatedMemory(made(safe=False)).train()
    x = rows(3)
    assert layer(x, remember=True) is x
    assert len(layer.memory) == 0


def test_a_gated_memory_adds_what_it_recalls_in_inference() -> None:
    layer = GatedMemory(made(safe=False)).eval()
    x = rows(3).view(1, 3, 4)
    assert torch.equal(layer(x, remember=True), x)
    assert len(layer.memory) == 3
    expected = x + torch.sigmoid(layer.gate(x)) * layer.memory.read(x).values
    torch.testing.assert_close(layer(x), expected)


def test_only_the_gate_learns_from_a_memory_that_is_not_safe() -> None:
    layer = GatedMemory(made(safe=False)).eval()
    written = rows(3).requires_grad_()
    layer(written, remember=True)
    layer(rows(2)).sum().backward()
    assert written.grad is None
    assert layer.gate.weight.grad is not None


def test_a_safe_memory_learns_in_training() -> None:
    layer = GatedMemory(made(safe=True)).train()
    written = rows(3).requires_grad_()
    layer(written, remember=True)
    layer(rows(2)).sum().backward()
    assert written.grad is not None
    assert bool(written.grad.abs().sum() > 0)


def test_a_gate_needs_values_as_wide_as_keys() -> None:
    from memplan.domain.errors import FieldError

    with pytest.raises(FieldError, match="values are 5 wide and keys 4"):
        GatedMemory(EpisodicMemory(Settings(capacity=2, key_size=4, value_size=5)))
