"""What a decoder layer keeps for backward, against formulas that were derived apart from the simulator.

The formulas are those of "Saved for backward per Llama layer" (found with fake-tensor traces of transformers'
classes, dropout 0). T tokens, h hidden, f feed-forward, a = heads · width, k = key heads · width, H heads.
"""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Tag, Trace
from memplan.domain.workload import Adapter, Attention, Batch, Checkpointing, Precision, Sequence
from tests.unit.simulator.runs import AMP, AMPERE, at_start, run, shape, workload

B, S, h, f, H, K, D, V = 3, 20, 48, 112, 4, 2, 16, 96
T, a, k = B * S, H * D, K * D
SCORES = B * H * S * S
LINEARS = h * (2 * a + 2 * k) + 3 * h * f
"""Weights of the linear layers of one block."""

NORMS = 2 * (8 * T * h + 4 * T)
"""Two RMSNorms on a half stream: fp32 copy, normalised copy, output, and one reciprocal root per token."""

MLP = 8 * T * f
FLASH = 4 * T * a + 4 * T * k + 4 * T * H
EAGER = 8 * T * a + 6 * SCORES
MATH = 14 * T * a + 4 * SCORES
EFFICIENT = 8 * T * a + 4 * B * H * 32
"""Keys and values repeated for each query head; the log-sum-exp has its rows padded to 32."""


def trace(layers: int, **settings: Any) -> Trace:
    model = shape(
        hidden_size=h,
        intermediate_size=f,
        num_attention_heads=H,
        num_key_value_heads=K,
        head_dim=D,
        vocab_size=V,
        num_hidden_layers=layers,
    )
    return run(workload(model, batch=Batch(micro=B), sequence=Sequence(length=S), **settings))


def activation(tag: Tag) -> bool:
    return tag[0] == "activations"


def kept_by_a_layer(phase: Phase = Phase.BACKWARD, **settings: Any) -> int:
    """Bytes of activations alive when backward begins, for one more layer."""
    two, three = (at_start(trace(layers, **settings), phase, activation) for layers in (2, 3))
    return three - two


@pytest.mark.parametrize(
    ("kernel", "core"),
    [
        (Attention.FLASH_ATTENTION_2, FLASH),
        (Attention.EAGER, EAGER),
        (Attention.MATH, MATH),
        (Attention.EFFICIENT, EFFICIENT),
    ],
)
def test_a_half_layer_keeps_norms_the_mlp_and_the_core_of_its_attention(kernel: Attention, core: int) -> None:
    assert kept_by_a_layer(attention=kernel) == NORMS + MLP + core


def test_sdpa_on_a_recent_gpu_keeps_what_flash_keeps() -> None:
    assert kept_by_a_layer(attention=Attention.SDPA) == NORMS + MLP + FLASH


def test_under_autocast_an_fp32_layer_keeps_half_copies_of_its_linear_weights() -> None:
    expected = 26 * T * h + 8 * T + MLP + FLASH + 2 * LINEARS
    assert kept_by_a_layer(precision=AMP) == expected


def test_an_fp32_layer_keeps_no_copies_and_twice_the_rest() -> None:
    # A norm saves its input (the residual stream), the normalised copy and the output; no upcast.
    norms = 2 * (12 * T * h + 4 * T)
    eager = 16 * T * a + 4 * SCORES
    fp32 = Precision(params=Dtype.FP32)
    assert kept_by_a_layer(precision=fp32, attention=Attention.EAGER) == norms + 16 * T * f + eager


@pytest.mark.parametrize(("precision", "item"), [(Precision(params=Dtype.BF16), 2), (AMP, 4)])
def test_a_checkpointed_layer_keeps_its_input_only(precision: Precision, item: int) -> None:
    assert kept_by_a_layer(precision=precision, checkpointing=Checkpointing(every=1)) == item * T * h


def test_autocast_caches_weight_copies_to_the_end_of_the_forward_pass_only() -> None:
    settings: dict[str, Any] = {"precision": AMP, "checkpointing": Checkpointing(every=1)}
    in_loss = kept_by_a_layer(Phase.LOSS, **settings)
    assert in_loss - kept_by_a_layer(Phase.BACKWARD, **settings) == 2 * LINEARS


def test_autocast_of_a_frozen_fp32_base_keeps_the_copies_of_all_layers_unless_checkpointed() -> None:
    adapter = Adapter(rank=2, targets=("q_proj",))
    plain = kept_by_a_layer(precision=AMP, adapter=adapter)
    checkpointed = kept_by_a_layer(
        Phase.LOSS, precision=AMP, adapter=adapter, checkpointing=Checkpointing(every=1)
    )
    assert plain > 2 * LINEARS
    # Its input, and the cached copies of the adapter's own two matrices.
    assert checkpointed == 4 * T * h + 2 * 2 * (h + a)


def test_checkpointing_every_other_layer_keeps_two_layers_at_the_price_of_one_and_an_input() -> None:
    one, three = (
        at_start(trace(layers, checkpointing=Checkpointing(every=2)), Phase.LOSS, activation)
        for layers in (1, 3)
    )
    assert three - one == NORMS + MLP + FLASH + 2 * T * h


def test_around_the_layers_tables_the_final_norm_and_token_ids_are_kept() -> None:
    tables, final_norm, ids = 4 * S * D, 8 * T * h + 4 * T, 16 * T
    # One layer less than one: what is there without any.
    around = at_start(trace(1), Phase.LOSS, activation) - kept_by_a_layer()
    assert around == tables + final_norm + ids


def test_float16_scores_need_no_fp32_copy_in_forward() -> None:
    half = trace(1, precision=Precision(params=Dtype.FP16), attention=Attention.EAGER)
    brain = trace(1, attention=Attention.EAGER)
    copies = [
        sum(tag[2:] == ("to", (B, H, S, S), Dtype.FP32) for tag in found.tags) for found in (half, brain)
    ]
    # In backward too: the gradient of the probabilities is cast once for either.
    assert copies == [1, 2]


def test_a_frozen_half_layer_keeps_less_than_a_trained_one_and_an_fp32_copy_for_each_adapter() -> None:
    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    rank = 8
    frozen = kept_by_a_layer(adapter=Adapter(rank=rank, targets=()), attention=Attention.EAGER)
    adapted = kept_by_a_layer(adapter=Adapter(rank=rank, targets=targets), attention=Attention.EAGER)
    casts = 4 * T * (3 * h + a)
    inner = 4 * T * rank * len(targets)
    assert frozen == 0
    assert adapted > casts + inner


def test_the_efficient_kernel_keeps_a_converted_mask_in_every_layer() -> None:
    masked = kept_by_a_layer(attention=Attention.EFFICIENT, causal_mask=True)
    assert masked - kept_by_a_layer(attention=Attention.EFFICIENT) == 2 * B * S * (-(-S // 8) * 8)


def test_flash_gradients_of_grouped_heads_are_first_made_for_every_query_head() -> None:
    grouped = trace(1)
    expanded = [tag for tag in grouped.tags if tag[2] in ("dk", "dv")]
    assert {tag[3] for tag in expanded} == {(B, S, H, D)}
    assert len(expanded) == 2
    alike = run(workload(shape(num_key_value_heads=4)), AMPERE)
    assert not [tag for tag in alike.tags if tag[2] in ("dk", "dv")]
