"""A smaller card on a larger one: what it is allowed, which kernels it has, and what it cannot stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan import profiles
from memplan.domain.allocator import AllocatorOptions
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.errors import InputError
from memplan.domain.target import Target
from memplan.domain.workload import Attention, Precision, Workload
from memplan.families import architecture
from memplan.smoke.gpu.emulation import Card, card, fraction, here

A100, T4, H100, GTX = (profiles.target(name) for name in ("a100-80gb", "t4", "h100", "gtx1650"))
SHAPE = architecture(
    {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 500,
    },
    lambda _: None,
)
HALF = Workload(model=SHAPE, precision=Precision(params=Dtype.FP16))
BRAIN = Workload(model=SHAPE)


def as_card(
    workload: Workload, target: Target | None, real: Target, free: Bytes | None = None, **settings: Any
) -> Card:
    return card(workload, target, real, real.usable, free or real.usable, **settings)


@given(st.integers(2**20, 2**43), st.data())
def test_a_fraction_never_allows_a_byte_more_and_hardly_any_less(total: int, data: st.DataObject) -> None:
    allowed = data.draw(st.integers(1, total))
    share = fraction(allowed, total)
    assert 0 <= share <= 1
    assert allowed - 1 <= int(share * total) <= allowed


def test_where_pytorch_may_take_a_kernel_that_is_not_simulated_it_says_so() -> None:
    assert any("cuDNN" in note for note in as_card(BRAIN, None, H100).notes)
    assert as_card(replace(BRAIN, attention=Attention.EAGER), None, H100).notes == ()


def test_a_card_stands_for_itself_without_a_limit() -> None:
    for target in (None, A100, replace(A100, free=Bytes(2**30))):
        found = as_card(BRAIN, target, A100)
        assert (found.emulates, found.allowed, found.fraction, found.kernels) == (False, None, None, None)
        assert found.notes == ()


def test_a_smaller_card_leaves_what_its_context_does_not_take() -> None:
    found = as_card(HALF, GTX, A100)
    assert found.emulates
    assert found.allowed == GTX.usable - GTX.context
    assert found.fraction is not None
    assert int(found.fraction * A100.usable) <= found.allowed
    assert found.notes[0] == f"gtx1650 emulated on {A100.name}"


def test_budget_own_share_and_card_are_limits_together() -> None:
    own = replace(HALF, allocator=AllocatorOptions(memory_fraction=0.5))
    assert as_card(own, None, A100).allowed == int(0.5 * A100.usable)
    assert as_card(own, GTX, A100).allowed == int(0.5 * GTX.usable)
    assert as_card(own, GTX, A100, budget=Bytes(2**30)).allowed == 2**30
    assert as_card(HALF, None, A100, budget=Bytes(2**30)).allowed == 2**30


def test_an_amount_of_memory_is_a_limit_and_keeps_the_card_s_kernels() -> None:
    found = as_card(BRAIN, profiles.target("24GiB"), H100)
    assert found.capability == (9, 0)
    assert found.environment == ()
    assert found.allowed is not None


def test_older_cards_have_no_flash_kernel_and_the_efficient_one_works_as_it_does_here() -> None:
    found = as_card(HALF, T4, A100)
    assert found.kernels == (Attention.EFFICIENT, Attention.MATH)
    assert found.predicted.attention is Attention.EFFICIENT
    assert found.capability == (8, 0)
    newer = as_card(HALF, profiles.target("rtx3090"), A100)
    assert newer.kernels is not None
    assert Attention.FLASH_ATTENTION_2 in newer.kernels
    assert (newer.predicted, newer.capability) == (HALF, (8, 6))


def test_a_kernel_asked_for_by_name_is_the_only_one() -> None:
    for kernel in (Attention.MATH, Attention.EFFICIENT, Attention.FLASH_ATTENTION_2):
        assert as_card(replace(HALF, attention=kernel), None, A100).kernels == (kernel,)
    for target in (None, T4):
        assert as_card(replace(HALF, attention=Attention.EAGER), target, A100).kernels is None


def test_hopper_s_larger_workspace_is_taken_away() -> None:
    assert as_card(BRAIN, A100, H100).environment == (("CUBLAS_WORKSPACE_CONFIG", ":4096:2:16:8"),)
    assert as_card(BRAIN, H100, H100).environment == ()


def test_garbage_collection_that_only_the_fraction_wakes_is_told_of() -> None:
    collecting = replace(HALF, allocator=AllocatorOptions(garbage_collection_threshold=0.8))
    assert any("garbage_collection_threshold" in note for note in as_card(collecting, GTX, A100).notes)
    assert as_card(collecting, None, A100).notes == ()


@pytest.mark.parametrize(
    ("workload", "target", "real", "why"),
    [
        (BRAIN, GTX, A100, r"gtx1650 has no bf16 \(precision.params\)"),
        (replace(HALF, attention=Attention.FLASH_ATTENTION_2), T4, A100, "t4 has no FlashAttention-2"),
        (HALF, profiles.target("rtx3060"), T4, "flash kernel for this run, which t4 here cannot"),
        (
            BRAIN,
            profiles.target("rtx3060"),
            T4,
            r"t4 here has no bf16 \(precision.params\), so it cannot stand",
        ),
        (HALF, A100, profiles.target("rtx3090"), "less than the"),
    ],
)
def test_what_a_card_cannot_stand_for_is_refused(
    workload: Workload, target: Target, real: Target, why: str
) -> None:
    with pytest.raises(InputError, match=why) as caught:
        as_card(workload, target, real)
    assert caught.value.hint


def test_what_others_hold_is_no_room() -> None:
    left = Bytes(2**30)
    assert as_card(HALF, None, A100, free=left).room == left
    with pytest.raises(
        InputError, match=r"here has 1\.00 GiB free, less than the 3\.68 GiB that gtx1650 leaves"
    ):
        as_card(HALF, GTX, A100, free=left)


def test_the_real_card_is_known_by_its_name_or_taken_as_it_is() -> None:
    assert here("Tesla T4", (7, 5), Bytes(15 * 2**30)) == T4
    found = here("Card of Tomorrow", (13, 0), Bytes(2**40))
    assert (found.usable, found.compute_capability) == (2**40, (13, 0))
