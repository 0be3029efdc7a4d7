"""What an episodic memory does with single writes and reads, and with what it cannot use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from memplan.domain.errors import FieldError, InputError
from memplan.mechanisms.episodic import EpisodicMemory, Settings, Written


def made(capacity: int = 4, key_size: int = 3, **others: Any) -> EpisodicMemory:
    return EpisodicMemory(Settings(capacity=capacity, key_size=key_size, **others))


def test_an_empty_memory_answers_with_zeros() -> None:
    found = made(value_size=5).read(torch.ones(2, 4, 3))
    assert torch.equal(found.values, torch.zeros(2, 4, 5))
    assert found.similarity.shape == found.slots.shape == (2, 4, 0)


def test_no_queries_are_no_work() -> None:
    memory = made()
    assert memory.write(torch.ones(2, 0, 3), torch.ones(2, 0, 3)) == Written(merged=0, stored=0, dropped=0)
    assert memory.read(torch.ones(0, 3)).values.shape == (0, 3)


def test_what_was_written_is_recalled_by_a_key_of_another_length() -> None:
    memory = made(temperature=0.01)
    memory.write(torch.eye(3), torch.arange(9.0).view(3, 3))
    torch.testing.assert_close(memory.read(7 * torch.eye(3)).values, torch.arange(9.0).view(3, 3))


def test_similar_keys_are_merged_into_their_slot_and_others_get_one() -> None:
    memory = made(rate=0.5)
    memory.write(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0]]))
    again = torch.tensor([[1.0, 0.1, 0.0], [3.0, 0.1, 0.0], [0.0, 0.0, 1.0]])
    values = torch.tensor([[2.0, 0.0, 0.0], [4.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
    assert memory.write(again, values) == Written(merged=2, stored=1, dropped=0)
    torch.testing.assert_close(memory.bank.keys[0], torch.tensor([1.5, 0.05, 0.0]))
    torch.testing.assert_close(memory.bank.values[:2], torch.tensor([[1.5, 0.0, 0.0], [9.0, 9.0, 9.0]]))


def test_duplicates_within_one_write_each_get_a_slot() -> None:
    memory = made()
    assert memory.write(torch.ones(2, 3), torch.ones(2, 3)).stored == 2
    assert memory.consolidate() == 1
    assert memory.bank.hits.tolist() == [2, 0, 0, 0]


def test_a_full_memory_forgets_what_was_used_longest_ago() -> None:
    memory = made(capacity=3, neighbours=1)
    memory.write(torch.eye(3), torch.eye(3))
    memory.read(torch.eye(3)[[0, 2]])
    memory.write(-torch.ones(1, 3), torch.full((1, 3), 5.0))
    assert memory.bank.values[1].tolist() == [5.0, 5.0, 5.0]
    assert torch.equal(memory.bank.keys[[0, 2]], torch.eye(3)[[0, 2]])


def test_of_too_many_new_keys_the_last_are_kept() -> None:
    memory = made(capacity=2)
    written = memory.write(torch.eye(3), torch.eye(3))
    assert written == Written(merged=0, stored=2, dropped=1)
    assert torch.equal(memory.bank.keys, torch.eye(3)[1:])


def test_a_slot_that_a_write_merges_into_is_not_given_away_by_the_same_write() -> None:
    memory = made(capacity=1)
    memory.write(torch.eye(3)[:1], torch.eye(3)[:1])
    assert memory.write(torch.eye(3)[:2], torch.eye(3)[:2]) == Written(merged=1, stored=0, dropped=1)


def test_buffers_are_in_no_state_dict_but_move_with_the_module() -> None:
    memory = made()
    assert memory.state_dict() == {}
    assert memory.to(torch.float64).bank.keys.dtype is torch.float64


def test_a_write_leaves_no_graph_behind() -> None:
    memory = made()
    keys = torch.eye(3, requires_grad=True)
    memory.write(keys * 2, keys * 2)
    assert not memory.bank.keys.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_bank_can_be_of_half_precision(dtype: torch.dtype) -> None:
    memory = EpisodicMemory(Settings(capacity=4, key_size=3, temperature=0.01), dtype=dtype)
    memory.write(torch.eye(3), torch.eye(3))
    assert memory.write(torch.eye(3), torch.eye(3)).merged == 3
    found = memory.read(torch.eye(3)).values
    assert found.dtype is dtype
    torch.testing.assert_close(found, torch.eye(3, dtype=dtype))


def test_it_works_in_inference_mode_and_after_it() -> None:
    memory = made()
    with torch.inference_mode():
        memory.write(torch.eye(3), torch.eye(3))
        memory.prune(at_most=2)
        memory.consolidate()
    assert memory.write(torch.eye(3), torch.eye(3)).merged == 2


def test_clearing_forgets_everything() -> None:
    memory = made()
    memory.write(torch.eye(3), torch.eye(3))
    memory.clear()
    assert len(memory) == 0
    assert not memory.bank.keys.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("which", ["keys", "values", "queries"])
def test_numbers_that_are_not_finite_are_refused_and_change_nothing(bad: float, which: str) -> None:
    memory = made()
    memory.write(torch.eye(3), torch.eye(3))
    before = memory.bank.keys.clone(), memory.bank.values.clone(), memory.bank.hits.clone(), memory.bank.clock
    given = {"keys": torch.ones(5, 3), "values": torch.ones(5, 3), "queries": torch.ones(5, 3)}
    given[which][3, 1] = bad

    def use() -> object:
        if which == "queries":
            return memory.read(given["queries"])
        return memory.write(given["keys"], given["values"])

    with pytest.raises(InputError, match=f"{which} holds NaN or infinity"):
        use()
    assert all(
        torch.equal(a, b)
        for a, b in zip(before[:3], (memory.bank.keys, memory.bank.values, memory.bank.hits), strict=True)
    )
    assert memory.bank.clock == before[3]


@pytest.mark.parametrize(
    ("keys", "values", "says"),
    [
        (torch.ones(2, 4), torch.ones(2, 3), r"keys has the shape \(2, 4\)"),
        (torch.ones(2, 3), torch.ones(2, 4), r"values has the shape \(2, 4\)"),
        (torch.ones(2, 3), torch.ones(3, 3), "2 keys come with 3 values"),
        (torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3), "keys holds torch.int64"),
        (torch.tensor(1.0), torch.ones(2, 3), r"keys has the shape \(\)"),
    ],
)
def test_what_has_the_wrong_form_is_refused(keys: torch.Tensor, values: torch.Tensor, says: str) -> None:
    with pytest.raises(InputError, match=says):
        made().write(keys, values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("capacity", 0),
        ("key_size", 0),
        ("value_size", 0),
        ("neighbours", 0),
        ("write_chunk", 0),
        ("read_chunk", -1),
        ("capacity", 2.5),
        ("capacity", True),
        ("similarity", "euclid"),
        ("threshold", 1.5),
        ("threshold", float("nan")),
        ("rate", 0.0),
        ("rate", float("nan")),
        ("temperature", 0.0),
        ("temperature", float("inf")),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    given: dict[str, Any] = {"capacity": 4, "key_size": 3, name: value}
    with pytest.raises(FieldError, match=f"{name} is"):
        Settings(**given)
