from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention, Precision, Sequence, Workload
from memplan.simulator.kernels import choose, needs_mask
from tests.unit.simulator.runs import model_of, run, shape, workload

FLASH, EFFICIENT, MATH = Attention.FLASH_ATTENTION_2, Attention.EFFICIENT, Attention.MATH
TURING, AMPERE, ADA, HOPPER, PASCAL, KEPLER = (7, 5), (8, 0), (8, 9), (9, 0), (6, 1), (3, 7)
BLACKWELL = (12, 0)


def case(dtype: Dtype, heads: int, mask: bool, **changes: Any) -> Workload:
    """Four query heads, and as many key heads as said."""
    model = shape(num_key_value_heads=heads, **changes)
    return workload(model, attention=Attention.SDPA, precision=Precision(params=dtype), causal_mask=mask)


@pytest.mark.parametrize(
    ("capability", "dtype", "key_heads", "mask", "kernel"),
    [
        (AMPERE, Dtype.BF16, 2, False, FLASH),
        (AMPERE, Dtype.FP16, 4, False, FLASH),
        (HOPPER, Dtype.BF16, 2, False, FLASH),
        (ADA, Dtype.BF16, 2, True, EFFICIENT),
        (AMPERE, Dtype.BF16, 4, True, EFFICIENT),
        (AMPERE, Dtype.FP32, 4, False, EFFICIENT),
        (AMPERE, Dtype.FP32, 4, True, EFFICIENT),
        (AMPERE, Dtype.FP32, 2, True, EFFICIENT),
        (AMPERE, Dtype.FP32, 2, False, EFFICIENT),
        (TURING, Dtype.FP16, 4, False, EFFICIENT),
        (TURING, Dtype.FP16, 2, True, EFFICIENT),
        (TURING, Dtype.FP16, 2, False, EFFICIENT),
        (TURING, Dtype.BF16, 4, False, MATH),
        (TURING, Dtype.FP32, 4, False, EFFICIENT),
        (PASCAL, Dtype.FP16, 4, False, EFFICIENT),
        (KEPLER, Dtype.FP32, 4, False, MATH),
    ],
)
def test_sdpa_takes_the_kernel_that_capability_dtype_mask_and_grouping_allow(
    capability: tuple[int, int], dtype: Dtype, key_heads: int, mask: bool, kernel: Attention
) -> None:
    found = case(dtype, key_heads, mask)
    assert choose(model_of(found), found, capability) is kernel


@pytest.mark.parametrize(("torch", "kernel"), [("2.13", MATH), ("2.14", EFFICIENT)])
def test_the_efficient_kernel_groups_heads_since_a_release(torch: str, kernel: Attention) -> None:
    found = case(Dtype.FP16, 2, False).changed("framework.torch", torch)
    assert choose(model_of(found), found, TURING) is kernel


@pytest.mark.parametrize(
    ("capability", "width", "dropout", "kernel"),
    [
        (AMPERE, 224, 0.0, FLASH),
        (ADA, 192, 0.0, FLASH),
        (ADA, 200, 0.0, EFFICIENT),
        (ADA, 256, 0.0, FLASH),
        (ADA, 256, 0.1, EFFICIENT),
        (BLACKWELL, 224, 0.0, EFFICIENT),
        (AMPERE, 20, 0.0, FLASH),
    ],
)
def test_smaller_cards_do_not_train_all_wide_heads_with_flash(
    capability: tuple[int, int], width: int, dropout: float, kernel: Attention
) -> None:
    found = case(Dtype.BF16, 4, False, head_dim=width, attention_dropout=dropout)
    assert choose(model_of(found), found, capability) is kernel


@pytest.mark.parametrize(
    ("capability", "dtype", "width", "kernel"),
    [
        (AMPERE, Dtype.BF16, 20, MATH),
        (AMPERE, Dtype.FP32, 20, EFFICIENT),
        (AMPERE, Dtype.FP32, 22, MATH),
        (TURING, Dtype.FP16, 20, MATH),
        (TURING, Dtype.FP32, 22, EFFICIENT),
        (PASCAL, Dtype.FP16, 22, EFFICIENT),
    ],
)
def test_the_efficient_kernel_wants_rows_of_16_bytes_where_tensor_cores_work(
    capability: tuple[int, int], dtype: Dtype, width: int, kernel: Attention
) -> None:
    found = case(dtype, 4, True, head_dim=width)
    assert choose(model_of(found), found, capability) is kernel


def test_flash_pads_heads_to_a_multiple_of_8_and_cuts_the_result() -> None:
    found = case(Dtype.BF16, 4, False, head_dim=20)
    trace = run(found.changed("attention", FLASH), AMPERE)
    made = [tag for tag in trace.tags if len(tag[3]) == 4]
    assert {tag[3][-1] for tag in made if tag[2] == "pad"} == {24}
    assert {tag[3][-1] for tag in made if tag[2] == "pad_backward"} == {20}
    assert {tag[3][-1] for tag in made if tag[2] == "flash_attention"} == {24}


def test_heads_wider_than_256_leave_flash() -> None:
    wide = case(Dtype.BF16, 4, False, head_dim=264)
    assert choose(model_of(wide), wide, AMPERE) is EFFICIENT


def test_autocast_decides_by_the_dtype_it_casts_to() -> None:
    found = case(Dtype.FP32, 2, False).changed("precision.autocast", Dtype.BF16)
    assert choose(model_of(found), found, AMPERE) is FLASH


@pytest.mark.parametrize("kind", [kind for kind in Attention if kind is not Attention.SDPA])
def test_a_kernel_that_was_asked_for_stands(kind: Attention) -> None:
    found = workload(attention=kind)
    assert choose(model_of(found), found, KEPLER) is kind


@pytest.mark.parametrize(("length", "needed"), [(15, False), (16, True), (17, True)])
def test_a_sliding_window_needs_a_mask_as_soon_as_it_does_not_cover_the_sequence(
    length: int, needed: bool
) -> None:
    model = shape(model_type="mistral", sliding_window=16)
    found = workload(model, sequence=Sequence(length=length), attention=Attention.SDPA)
    assert needs_mask(model, found) is needed
    assert choose(model, found, AMPERE) is (EFFICIENT if needed else FLASH)


def test_a_model_without_a_window_needs_no_mask_unless_padded() -> None:
    found = workload(attention=Attention.SDPA, sequence=Sequence(length=4096))
    assert not needs_mask(model_of(found), found)
    padded = found.changed("causal_mask", True)
    assert needs_mask(model_of(padded), padded)


def test_a_mask_that_is_needed_is_made_and_one_that_is_not_is_not() -> None:
    window = shape(model_type="mistral", sliding_window=8)
    made = run(workload(window, attention=Attention.SDPA))
    assert [tag[3] for tag in made.tags if tag[2] == "causal_mask"] == [(1, 1, 16, 16)]
    spared = run(workload(attention=Attention.SDPA))
    assert not [tag for tag in spared.tags if tag[2] == "causal_mask"]


def test_the_kernel_shows_in_the_trace() -> None:
    def kernels(capability: tuple[int, int]) -> set[str]:
        found = case(Dtype.FP16, 4, False)
        return {tag[2] for tag in run(found, capability).tags if tag[2].endswith("attention")}

    assert kernels(AMPERE) == {"flash_attention"}
    assert kernels(TURING) == {"efficient_attention"}
